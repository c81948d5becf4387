"""The schedules of torch.optim.lr_scheduler that plain options can build, stepped after every epoch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import torch
from annotated_types import Ge, Gt, Le, Lt
from torch.optim import lr_scheduler
from torch.optim.lr_scheduler import LRScheduler

from mmreg import Schedule
from mmreg_optim.options import Doc, Fraction, NotNegative, Positive, options

Rates = NotNegative | list[NotNegative]
Count = Annotated[int, Ge(0)]
Length = Annotated[int, Ge(1)]

Factor = Annotated[Positive, Doc("what the rate is multiplied by.")]
Iterations = Annotated[Count, Doc("over how many epochs.")]
LeastRate = Annotated[NotNegative, Doc("the least rate.")]
CycleMomentum = Annotated[
    bool,
    Doc("whether momentum goes down where the rate goes up, and back; false for optimizers without one, such as Muon."),
]


_EXAMPLES: Mapping[str, Mapping[str, Any]] = {
    "CosineAnnealingWarmRestarts": {"T_0": 2},
    "CyclicLR": {"base_lr": 0.01, "max_lr": 0.1},
    "ExponentialLR": {"gamma": 0.9},
    "MultiStepLR": {"milestones": [1]},
    "OneCycleLR": {"max_lr": 0.3},
    "StepLR": {"step_size": 2},
}
"""Options of the schedules that have some without a default."""


class TorchSchedule(Schedule):
    """The class of torch.optim.lr_scheduler that has the same name; its options are torch's."""

    def build(self, optimizer: torch.optim.Optimizer, *, steps: int, epochs: int) -> LRScheduler:
        """See `Schedule`."""
        built: LRScheduler = getattr(lr_scheduler, type(self).__name__)(optimizer, **self.arguments(optimizer, epochs))
        return built

    def arguments(self, optimizer: torch.optim.Optimizer, epochs: int) -> dict[str, Any]:
        """What torch's constructor takes besides the optimizer."""
        return vars(self)

    @classmethod
    def conformance_material(cls) -> dict[str, Any]:
        """What `mmreg check` builds it with: values for the options that have no default."""
        return {"options": _EXAMPLES.get(cls.__name__, {})}


def _by_group(rate: float | list[float], optimizer: torch.optim.Optimizer) -> list[float]:
    """An absolute rate for each group of an optimizer, in the proportions of their own rates."""
    if isinstance(rate, list):
        return rate
    base = optimizer.defaults.get("lr")
    return [rate * (group["lr"] / base if base else 1.0) for group in optimizer.param_groups]


@options
class ConstantLR(TorchSchedule):
    """A smaller rate for the first epochs."""

    factor: Annotated[Fraction, Doc("what the rate is multiplied by at first.")] = 1.0 / 3
    total_iters: Iterations = 5


@options
class CosineAnnealingLR(TorchSchedule):
    """Half a cosine down to the least rate (Loshchilov and Hutter 2017)."""

    T_max: Annotated[Length | None, Doc("epochs of the half cosine; null: all of the training's.")] = None
    eta_min: LeastRate = 0.0

    def arguments(self, optimizer: torch.optim.Optimizer, epochs: int) -> dict[str, Any]:
        """See `TorchSchedule`."""
        return {**vars(self), "T_max": epochs if self.T_max is None else self.T_max}


@options
class CosineAnnealingWarmRestarts(TorchSchedule):
    """Half a cosine down to the least rate, again and again (Loshchilov and Hutter 2017)."""

    T_0: Annotated[Length, Doc("epochs of the first half cosine.")]
    T_mult: Annotated[Length, Doc("by what each one is longer than the one before.")] = 1
    eta_min: LeastRate = 0.0


@options
class CyclicLR(TorchSchedule):
    """Up and down between two rates (Smith 2017)."""

    base_lr: Annotated[Rates, Doc("the lower rate, or one for each group of parameters.")]
    max_lr: Annotated[Rates, Doc("the upper rate, or one for each group of parameters.")]
    step_size_up: Annotated[Length, Doc("epochs of a rise.")] = 2000
    step_size_down: Annotated[Length | None, Doc("epochs of a fall; null: as many as of a rise.")] = None
    mode: Annotated[
        Literal["triangular", "triangular2", "exp_range"],
        Doc("whether every cycle is as high as the first, half as high as the one before, or shrinks by `gamma`."),
    ] = "triangular"
    gamma: Annotated[Positive, Doc("what the height is multiplied by every epoch, in mode exp_range.")] = 1.0
    scale_mode: Annotated[Literal["cycle", "iterations"], Doc("not used with the modes above.")] = "cycle"
    cycle_momentum: CycleMomentum = True
    base_momentum: Annotated[NotNegative, Doc("momentum at the upper rate.")] = 0.8
    max_momentum: Annotated[NotNegative, Doc("momentum at the lower rate.")] = 0.9

    def arguments(self, optimizer: torch.optim.Optimizer, epochs: int) -> dict[str, Any]:
        """See `TorchSchedule`."""
        rates = {name: _by_group(getattr(self, name), optimizer) for name in ("base_lr", "max_lr")}
        return {**vars(self), **rates}


@options
class ExponentialLR(TorchSchedule):
    """A constant factor every epoch."""

    gamma: Factor


@options
class LinearLR(TorchSchedule):
    """A line from one factor of the rate to another over the first epochs."""

    start_factor: Annotated[float, Gt(0), Le(1), Doc("what the rate is multiplied by at first.")] = 1.0 / 3
    end_factor: Annotated[Fraction, Doc("what it is multiplied by in the end.")] = 1.0
    total_iters: Iterations = 5


@options
class MultiStepLR(TorchSchedule):
    """A factor at given epochs."""

    milestones: Annotated[list[Count], Doc("after how many epochs.")]
    gamma: Factor = 0.1


@options
class OneCycleLR(TorchSchedule):
    """Up to a greatest rate and down again (Smith and Topin 2018), by epoch; `one_cycle` does it by step."""

    max_lr: Annotated[Rates, Doc("the greatest rate, or one for each group of parameters.")]
    total_steps: Annotated[
        Length | None,
        Doc("epochs of the cycle; null: `epochs` times `steps_per_epoch` if both are given, else the training's."),
    ] = None
    epochs: Annotated[Length | None, Doc("one factor of the cycle's length.")] = None
    steps_per_epoch: Annotated[Length | None, Doc("the other factor of it.")] = None
    pct_start: Annotated[Fraction, Doc("the share of the cycle that is the rise.")] = 0.3
    anneal_strategy: Annotated[Literal["cos", "linear"], Doc("along half a cosine, or along a line.")] = "cos"
    cycle_momentum: CycleMomentum = True
    base_momentum: Annotated[Rates, Doc("momentum at the greatest rate, or one for each group.")] = 0.85
    max_momentum: Annotated[Rates, Doc("momentum at the begin, or one for each group.")] = 0.95
    div_factor: Annotated[Positive, Doc("the greatest rate, divided by this, is the first one.")] = 25.0
    final_div_factor: Annotated[Positive, Doc("the first rate, divided by this, is the last one.")] = 10000.0
    three_phase: Annotated[bool, Doc("whether the fall to the first rate and that to the last are two phases.")] = False

    def arguments(self, optimizer: torch.optim.Optimizer, epochs: int) -> dict[str, Any]:
        """See `TorchSchedule`."""
        by_factors = self.epochs is not None and self.steps_per_epoch is not None
        total = epochs if self.total_steps is None and not by_factors else self.total_steps
        return {**vars(self), "max_lr": _by_group(self.max_lr, optimizer), "total_steps": total}


@options
class PolynomialLR(TorchSchedule):
    """A polynomial down to zero over the first epochs."""

    total_iters: Iterations = 5
    power: Annotated[Positive, Doc("of the polynomial.")] = 1.0


@options
class ReduceLROnPlateau(TorchSchedule):
    """A factor whenever the validation loss no longer falls (the training loss without validation rows)."""

    follows_loss: ClassVar[bool] = True

    mode: Annotated[Literal["min", "max"], Doc("whether a lower or a higher number is better.")] = "min"
    factor: Annotated[float, Gt(0), Lt(1), Doc("what the rate is multiplied by.")] = 0.1
    patience: Annotated[Count, Doc("epochs without improvement that are let pass.")] = 10
    threshold: Annotated[NotNegative, Doc("improvements up to this much do not count.")] = 0.0001
    threshold_mode: Annotated[Literal["rel", "abs"], Doc("whether `threshold` is a share or a difference.")] = "rel"
    cooldown: Annotated[Count, Doc("epochs after a change in which nothing is counted.")] = 0
    min_lr: Annotated[Rates, Doc("the least rate, or one for each group of parameters.")] = 0.0
    eps: Annotated[NotNegative, Doc("changes of the rate up to this much are not made.")] = 1e-8


@options
class StepLR(TorchSchedule):
    """A factor every so many epochs."""

    step_size: Annotated[Length, Doc("how many.")]
    gamma: Factor = 0.1
