"""How long a training would take on this machine's CPU: found by taking a few of its steps on a few of its rows."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from mmreg.contract.callback import Step
from mmreg.contract.optimization import ParameterGroup
from mmreg.data.decode import num_workers
from mmreg.data.prepared import fit_arrays
from mmreg.data.sources import open_table
from mmreg.data.splits import split_rows
from mmreg.experiment import Experiment, open_experiment, prepare_all
from mmreg.model.devices import resolve_precision
from mmreg.recipe.components import Component
from mmreg.recipe.form import Fractions
from mmreg.recipe.recipe import Recipe, read_recipe
from mmreg.recipe.resolve import resolve
from mmreg.training.encode_once import encode_once
from mmreg.training.loop import Trainer
from mmreg.training.rows import TrainingRows

SAMPLE = 16
"""Rows that are decoded; batches repeat them."""
FEW = 8
"""Rows of the steps that are taken first."""
STEPS = 3
"""Steps of which the fastest counts, less the first, which prepares what later ones find ready."""
AFFORDABLE = 0.7
"""Seconds up to which a step with as many rows as the recipe says is taken too; else its time is in proportion."""
BACKWARD = 3.0
"""How many times as long as predicting rows it takes to learn from them: twice the forward pass's work comes on top."""
PASSES = 6
"""How often Adam goes over all weights: two moments, a root, two quotients and the weights themselves."""
LOOK = 1.5
"""Batches that are encoded to see what becomes of them, before all are encoded once."""
CPU = torch.device("cpu")


def expected_seconds(path: Path) -> float:
    """About how long the training of a recipe takes on the CPU, decoding and validation included.

    Takes a second or two itself, whatever the table's size. It changes no file and no random state.

    Args:
        path: the recipe's, whose table is a single one.

    Raises:
        MmregError: the recipe or the rows that were tried cannot be trained on.
    """
    recipe = read_recipe(path)
    (file,) = recipe.form.files().values()
    table = open_table(file, recipe.folder, missing=recipe.form.missing, remote=recipe.form.remote)
    training, split = recipe.form.training, recipe.form.split
    # How many rows a split has is the same whatever its classes.
    shares = split.model_dump(exclude_unset=True, exclude={"stratify"}) if isinstance(split, Fractions) else split
    rows = {name: len(numbers) for name, numbers in split_rows(table, shares, None, training.seed).items()}
    few = table.select(np.unique(np.linspace(0, len(table) - 1, SAMPLE).astype(np.int64)))
    sample = recipe.replace({"table": few, "split": {"validation": 0.0, "test": 0.0}, "training.max_steps": STEPS})

    size = min(training.batch_rows, rows["train"])
    with torch.random.fork_rng(()):
        seconds, before = _step_seconds(sample, min(FEW, size))
        seconds *= max(1.0, size / FEW)
        if size > FEW and seconds <= AFFORDABLE:
            seconds, _ = _step_seconds(sample, size)
    a_row = seconds / size
    learned = rows["train"] + rows.get("validation", 0) / BACKWARD
    return before * len(table) + training.last_epoch * learned * a_row


def _step_seconds(recipe: Recipe, batch_size: int) -> tuple[float, float]:
    """The seconds of one step with so many rows, and those that a row takes before the first: decoded, encoded once."""
    plan = resolve(recipe.replace({"training.batch_size": batch_size}))
    experiment = open_experiment(plan)
    started = time.perf_counter()
    rows = _sample_rows(experiment, STEPS * batch_size)
    before = (time.perf_counter() - started) / len(experiment.table) / num_workers()
    model, dtype = experiment.build_model(), resolve_precision(plan.recipe.form.training.precision, CPU)
    if any(given.is_frozen for given in plan.inputs.values()):
        started = time.perf_counter()
        own = (plan, model, experiment.modalities, rows.prepared, rows.train)
        rows.given = encode_once(*own, CPU, dtype, None, always=True)
        count, copies = len(experiment.table), max(given.augmented_copies for given in plan.inputs.values())
        looked_at = LOOK * min(batch_size, count)
        before += (time.perf_counter() - started) * (1 + copies) / (count * (1 + copies) + looked_at)
    ends: list[float] = []

    def on_step(step: Step) -> None:
        ends.append(time.perf_counter())

    moved = replace(plan, optimizer=cast(Component, _StandIn()), schedule=None)
    trainer = Trainer(moved, model, experiment.modalities, rows, CPU, dtype, on_step)
    next(trainer.epochs())
    return min(end - start for start, end in pairwise(ends)), before


def _sample_rows(experiment: Experiment, count: int) -> TrainingRows:
    """The rows, decoded and repeated until there are so many, to learn from."""
    prepared = prepare_all(experiment.plan, experiment.table, experiment.modalities, None)
    train = experiment.splits["train"]
    fit_arrays(prepared, experiment.learning, train)
    return TrainingRows(prepared, experiment.targets, experiment.weights, np.resize(train, count), train[:0])


class _StandIn:
    """In the place of an optimizer: it moves nothing, but goes over all weights as often as Adam does.

    The first of torch's own optimizers imports torch's compiler, which takes longer than all of the trial.
    """

    def build(self, groups: Sequence[ParameterGroup] = ()) -> _StandIn:
        """The component, and the optimizer that it builds, are one and the same."""
        self.param_groups: list[dict[str, Any]] = [{"params": list(group.parameters), "lr": 0.0} for group in groups]
        return self

    @torch.no_grad()
    def step(self) -> None:
        """Go over the weights that have gradients."""
        for group in self.param_groups:
            for weight in group["params"]:
                for _ in range(0 if weight.grad is None else PASSES):
                    weight.add_(weight.grad, alpha=0.0)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients."""
        for group in self.param_groups:
            for weight in group["params"]:
                weight.grad = None
