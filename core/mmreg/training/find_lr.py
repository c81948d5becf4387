"""Looking for a learning rate: a recipe's own steps on its own rows, by the learning-rate range test."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmreg.contract.callback import Callback, Step
from mmreg.data.cache import cache_dir
from mmreg.data.prepared import fit_arrays, keep_rows
from mmreg.errors import OptionError, TableError, TrainingError
from mmreg.experiment import checked_plan, open_experiment, prepare_all
from mmreg.model.devices import deterministic, resolve_device, resolve_precision
from mmreg.model.seeding import random_state_kept
from mmreg.recipe.recipe import Recipe, read_recipe
from mmreg.runs.followers import Followers
from mmreg.runs.notebook_bar import follower
from mmreg.training.encode_once import encode_once
from mmreg.training.loop import Trainer
from mmreg.training.rate_range import RangeTest, RateRange
from mmreg.training.rows import TrainingRows

UNTIMED = {"schedule": None, "early_stopping": None, "max_minutes": None, "average": None}
"""Keys of a training that have no meaning here."""


def find_lr(
    recipe: Recipe | Mapping[str, Any] | str | Path,
    *,
    overrides: Iterable[str] = (),
    low: float = 1e-7,
    high: float = 10.0,
    steps: int = 100,
    device: str | torch.device | None = None,
    callback: Callback | None = None,
) -> RateRange:
    """Train a model for some steps while the learning rate grows, to see which rates it can be trained with.

    The model is a new one and is thrown away; no run is written, and nothing is changed. Where the recipe multiplies
    the rate of some weights, it does so here.

    Args:
        recipe: as for `train`.
        overrides: keys to change, such as "training.batch_size=32".
        low: the first rate.
        high: the last rate, if the loss does not diverge before.
        steps: how many steps there are, at least 2.
        device: where to compute; the best one there is if it is not given.
        callback: told of messages, progress and steps.

    Returns:
        The rates with their losses; `suggestion` is the rate at which the loss fell fastest.

    Raises:
        RecipeError, TableError, TargetError, DataError: as for `train`.
        OptionError: the optimizer has no rate that could be multiplied.
        ValueError: the rates do not grow or are not finite, or there are fewer than 2 steps.
    """
    if not 0 < low < high or not math.isfinite(high / low) or steps < 2:
        raise ValueError(
            f"the rates must be finite and grow from above 0 in at least 2 steps, found {low} to {high} in {steps}"
        )
    target = resolve_device(device)
    changes = {**UNTIMED, "epochs": steps, "max_steps": steps}
    given = read_recipe(recipe, overrides)
    given = given.replace({f"training.{key}": value for key, value in changes.items()})
    plan = checked_plan(given)
    if plan.optimizer.options.get("lr") == 0:  # of which the weights' own rates could not be told
        plan = checked_plan(given.replace({"training.optimizer.lr": 1.0}))
    training = plan.recipe.form.training
    dtype = resolve_precision(training.precision, target)
    experiment = open_experiment(plan)
    told = Followers(follower(callback))
    for text in experiment.messages:
        told.message(text)
    prepared = prepare_all(plan, experiment.table, experiment.modalities, cache_dir(), told.preparing)
    experiment.hide_lost(prepared)
    train = keep_rows(prepared, experiment.splits["train"])
    if not len(train):
        raise TableError("no training row is left after rows with bad cells were left out")
    fit_arrays(prepared, experiment.learning, train)
    test = RangeTest(low, high, steps)
    with deterministic(training.deterministic), random_state_kept(target):
        model = experiment.build_model().to(target)
        modalities, cache = experiment.modalities, cache_dir()
        encoded = encode_once(
            plan, model, modalities, prepared, train, target, dtype, cache, told.preparing, told.message
        )
        rows = TrainingRows(prepared, experiment.targets, experiment.weights, train, train[:0], given=encoded)

        def on_step(step: Step) -> None:
            told.tell("on_step", step)
            test.add(step.loss())
            if test.over:
                raise _Over
            set_rate(test.rate)

        trainer = Trainer(plan, model, experiment.modalities, rows, target, dtype, on_step)
        groups = trainer.optimizer.param_groups
        base = plan.optimizer.options.get("lr") or max(float(group["lr"]) for group in groups)
        if not base:
            raise OptionError(f"the optimizer {plan.optimizer.name} has a rate of 0 for all weights: give it another")
        factors = [float(group["lr"]) / base for group in groups]

        def set_rate(rate: float) -> None:
            for group, factor in zip(groups, factors, strict=True):
                _set(group, rate * factor)

        set_rate(test.rate)
        try:
            for _ in trainer.epochs():
                pass
        except TrainingError:  # the loss is not finite
            test.add(math.nan)
        except _Over:
            pass
    return test.result()


class _Over(Exception):
    """The test is over."""


def _set(group: dict[str, Any], rate: float) -> None:
    """Set the learning rate of a group of parameters, in place where a step reads it from there."""
    if isinstance(group["lr"], Tensor):
        group["lr"].fill_(rate)
    else:
        group["lr"] = rate
