"""Optimizers and learning-rate schedules by name, from torch.optim, and three schedules with warm-up."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer, lr_scheduler
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from mmreg.errors import OptionError
from mmreg.messages import near

Schedule = LRScheduler | ReduceLROnPlateau

_OTHER_OPTIMIZERS = {"Optimizer", "LBFGS", "SparseAdam", "Muon"}
"""The base class, and those for a loss that is called again, for sparse gradients, and for matrices alone."""
WARM_UP_SCHEDULES = ("cosine", "linear", "one_cycle")


def optimizer_names() -> list[str]:
    """The names that a recipe may give: torch.optim's optimizers for any model."""
    return sorted(
        name
        for name, cls in vars(torch.optim).items()
        if inspect.isclass(cls) and issubclass(cls, Optimizer) and name not in _OTHER_OPTIMIZERS
    )


def schedule_names() -> list[str]:
    """The names that a recipe may give: ours and those of torch.optim.lr_scheduler that plain options can build."""
    left_out = {"LRScheduler", "ChainedScheduler", "SequentialLR", "LambdaLR", "MultiplicativeLR", "SWALR"}
    return [
        *WARM_UP_SCHEDULES,
        *sorted(
            name
            for name, cls in vars(lr_scheduler).items()
            if inspect.isclass(cls) and issubclass(cls, LRScheduler) and name not in left_out and name[0] != "_"
        ),
    ]


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """The model's trainable parameters, those without weight decay (biases, norms: one axis at most) apart."""
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def build_optimizer(name: str, options: Mapping[str, Any], model: nn.Module) -> Optimizer:
    """An optimizer over a model's parameters.

    Args:
        name: one of `optimizer_names`.
        options: its keyword arguments.
        model: whose parameters it changes.

    Raises:
        OptionError: an unknown name or option, or a value that the optimizer refuses.
    """
    if name not in optimizer_names():
        raise OptionError(
            f"there is no optimizer {name!r}{near(name, optimizer_names())} (there are {_list(optimizer_names())})"
        )
    cls = getattr(torch.optim, name)
    accepted = _check_names(name, cls, options, left_out=("params",))
    decay = options.get("weight_decay", accepted["weight_decay"].default if "weight_decay" in accepted else 0.0)
    groups = parameter_groups(model, decay)
    if "weight_decay" not in accepted:
        groups = [{"params": [parameter for group in groups for parameter in group["params"]]}]
    try:
        optimizer: Optimizer = cls(groups, **_tuples(options))
    except (TypeError, ValueError, RuntimeError) as error:
        raise OptionError(f"optimizer {name} refuses its options {dict(options)}: {error}") from error
    return optimizer


def build_schedule(name: str, options: Mapping[str, Any], optimizer: Optimizer, steps: int, epochs: int) -> Schedule:
    """A learning-rate schedule. Ours are stepped once an optimizer step, torch's once an epoch; see `per_step`.

    Args:
        name: one of `schedule_names`.
        options: for ours: `warmup` (a share of the steps), `final` (the last rate as a share of the first);
            for torch's: its keyword arguments.
        optimizer: whose learning rate it sets.
        steps: the number of optimizer steps of the training.
        epochs: the number of its epochs.

    Raises:
        OptionError: an unknown name or option, or a value that the schedule refuses.
    """
    if name in WARM_UP_SCHEDULES:
        return lr_scheduler.LambdaLR(optimizer, _warm_up_factor(name, options, steps))
    if name not in schedule_names():
        raise OptionError(
            f"there is no schedule {name!r}{near(name, schedule_names())} (there are {_list(schedule_names())})"
        )
    cls = getattr(lr_scheduler, name)
    accepted = _check_names(name, cls, options, left_out=("optimizer", "last_epoch"))
    lengths = {"T_max": epochs, "total_steps": epochs}
    course = {key: value for key, value in lengths.items() if key in accepted}
    try:
        schedule: Schedule = cls(optimizer, **{**course, **_tuples(options)})
    except (TypeError, ValueError) as error:
        raise OptionError(f"schedule {name} refuses its options {dict(options)}: {error}") from error
    return schedule


def try_schedule(name: str, options: Mapping[str, Any], optimizer: Optimizer, epochs: int) -> None:
    """Build a schedule and step it through a whole training, as some fail no earlier.

    Raises:
        OptionError: see `build_schedule`.
    """
    schedule = build_schedule(name, options, optimizer, epochs, epochs)
    try:
        for _ in range(epochs):
            optimizer.step()
            if isinstance(schedule, ReduceLROnPlateau):
                schedule.step(1.0)
            else:
                schedule.step()
    except Exception as error:  # torch raises what comes of it, such as a division by zero
        found = f"{type(error).__name__}: {error}"
        raise OptionError(f"schedule {name} with {dict(options)} fails over {epochs} epochs: {found}") from error


def per_step(name: str) -> bool:
    """Whether a schedule is stepped once an optimizer step rather than once an epoch."""
    return name in WARM_UP_SCHEDULES


def _warm_up_factor(name: str, options: Mapping[str, Any], steps: int) -> Callable[[int], float]:
    """The rate's factor by step: a linear rise over the warm-up, then a fall along a cosine or a line."""
    defaults = {"warmup": 0.3 if name == "one_cycle" else 0.0, "final": 0.0}
    for key, value in options.items():
        if key not in defaults:
            raise OptionError(
                f"schedule {name} has no option {key!r}{near(key, defaults)} (it has {', '.join(defaults)})"
            )
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < 1:
            raise OptionError(f"schedule {name}: {key} must be a share of at least 0 and below 1, found {value!r}")
    warmup = {**defaults, **options}["warmup"] * steps
    final = {**defaults, **options}["final"]

    def factor(step: int) -> float:
        if step < warmup:
            return float((step + 1) / (warmup + 1))
        progress = min(1.0, (step - warmup) / max(1.0, steps - warmup))
        falling = 1 - progress if name == "linear" else (1 + math.cos(math.pi * progress)) / 2
        return float(final + (1 - final) * falling)

    return factor


def _check_names(name: str, cls: type, options: Iterable[str], left_out: Iterable[str]) -> dict[str, inspect.Parameter]:
    """The class's parameters by name, after a check that every option is one of them."""
    accepted = {key: value for key, value in inspect.signature(cls).parameters.items() if key not in left_out}
    for key in options:
        if key not in accepted:
            raise OptionError(f"{name} has no option {key!r}{near(key, accepted)} (it has {', '.join(accepted)})")
    return accepted


def _tuples(options: Mapping[str, Any]) -> dict[str, Any]:
    """Lists as tuples, which torch expects for pairs such as Adam's betas."""
    return {
        key: tuple(value) if isinstance(value, list) and key == "betas" else value for key, value in options.items()
    }


def _list(names: Iterable[str]) -> str:
    return ", ".join(names)
