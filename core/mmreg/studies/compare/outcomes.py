"""What trained runs predicted for their test rows, with the rows matched between runs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmreg import runs
from mmreg.contract.task import Task
from mmreg.errors import RunError, TargetError
from mmreg.model.measures import Measures
from mmreg.recipe.resolve import Plan
from mmreg.runs import Run
from mmreg.studies.compare.usage import read_usage


@dataclass(frozen=True)
class Outcome:
    """One run on its test rows.

    Axes: n its rows, K classes.

    Attributes:
        folder: the run's folder.
        plan: its resolved recipe.
        task: fitted.
        fingerprint: that of its table.
        parameters: how many numbers were trained.
        usage: what the training used, as `read_usage` gives it.
        rows: (n,) the numbers of its rows among those of all runs.
        targets: (n, ...) as the task encodes them.
        scores: (n, K) in the task's space.
    """

    folder: Path
    plan: Plan
    task: Task
    fingerprint: str
    parameters: int
    usage: Mapping[str, Any]
    rows: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    targets: Tensor = field(default_factory=lambda: torch.zeros(0))
    scores: Tensor = field(default_factory=lambda: torch.zeros(0, 0))

    @property
    def seed(self) -> int:
        """The seed that it was trained with."""
        return self.plan.recipe.form.training.seed

    @property
    def correct(self) -> NDArray[np.bool_] | None:
        """(n,) whether the most probable class is the true one; None for tasks without exclusive classes."""
        if self.task.space != "log_probabilities":
            return None
        right: NDArray[np.bool_] = (self.scores.argmax(1) == self.targets).numpy()
        return right

    def metrics(self, names: Sequence[str] = ()) -> dict[str, float]:
        """The task's metrics, those of the recipe and further ones by name, as far as they are numbers."""
        wanted = list(dict.fromkeys([*self.plan.metric_names, *names]))
        found = Measures(self.task, self.plan.metrics).evaluate(self.scores, self.targets, wanted)
        return {name: value for name, value in found.items() if isinstance(value, float)}

    def measure(self, metric: str, chosen: NDArray[np.int64]) -> float:
        """A metric on some of the rows, each as often as it is given; NaN where it is undefined on them."""
        rows = torch.from_numpy(chosen)
        try:
            return float(self.task.evaluate(self.scores[rows], self.targets[rows], [metric])[metric])
        except TargetError:
            return math.nan


def outcome_of(run: Run | str | Path) -> Outcome:
    """A run without its predictions.

    Raises:
        RunError: it cannot be loaded.
    """
    if not isinstance(run, Run):
        run = runs.load(run, "cpu")
    count = sum(parameter.numel() for parameter in run.model.parameters() if parameter.requires_grad)
    return Outcome(run.folder, run.plan, run.task, run.fingerprint, count, read_usage(run.folder))


@dataclass(frozen=True)
class _Predictions:
    """What one run wrote: its rows' keys, their targets as the table has them, and scores."""

    keys: list[Any]
    targets: list[Any]
    scores: list[Any]


def with_predictions(outcomes: Sequence[Outcome], split: str | None) -> tuple[list[Outcome], str, list[Any], list[str]]:
    """The runs with what they predicted, rows matched.

    Rows are matched by the recipes' `key`, or by number where all runs were trained on the same table. Runs with the
    same seed are held to the rows that all of them have.

    Args:
        outcomes: the runs.
        split: which rows; None for the test rows, or those of validation if a run has no test rows.

    Returns:
        The runs, the split, the keys of all rows, and what a reader should know.

    Raises:
        RunError: the runs have no such rows, or none in common, their rows cannot be matched, or the same row has
            different targets.
    """
    runs.check_same_task(outcomes)
    column = runs.matching_key(outcomes)
    name = split or ("test" if all(_has(outcome, "test") for outcome in outcomes) else "validation")
    notes = []
    if name == "validation" and split is None:
        notes.append(
            "there are no test rows, so validation rows are compared; as they chose the weights, figures are too good"
        )
    found = [_read(outcome, name) for outcome in outcomes]
    seeds = [outcome.seed for outcome in outcomes]
    sets = [frozenset(predictions.keys) for predictions in found]
    kept = _common(sets, seeds)
    lost = max(len(own - common) for own, common in zip(sets, kept, strict=True))
    if lost:
        notes.append(f"up to {lost} {name} rows of a run are left out, as not all runs have them")
    if len(set(kept)) > 1:
        notes.append(
            f"the seeds have different {name} rows, as where the split is drawn by the seed; a row counts in each seed "
            "that has it (a recipe with a split column has the same rows in all)"
        )
    keys: dict[Any, int] = {}
    targets = runs.Targets(column)
    complete = []
    for outcome, predictions, common in zip(outcomes, found, kept, strict=True):
        chosen = [at for at, key in enumerate(predictions.keys) if key in common]
        targets.add(outcome.folder, ((predictions.keys[at], predictions.targets[at]) for at in chosen))
        for at in chosen:
            keys.setdefault(predictions.keys[at], len(keys))
        rows = np.array([keys[predictions.keys[at]] for at in chosen], np.int64)
        encoded = torch.from_numpy(outcome.task.encode([predictions.targets[at] for at in chosen]))
        scores = torch.tensor([predictions.scores[at] for at in chosen], dtype=torch.float32)
        complete.append(replace(outcome, rows=rows, targets=encoded, scores=scores))
    return complete, name, list(keys), notes


def _has(outcome: Outcome, split: str) -> bool:
    return (outcome.folder / runs.PREDICTIONS / f"{split}.parquet").is_file()


def _read(outcome: Outcome, split: str) -> _Predictions:
    table = runs.read_predictions(outcome.folder, split)
    if table is None:
        raise RunError(f"{outcome.folder} has no predictions of {split} rows to compare")
    keys = runs.written_keys(outcome.folder, split, table)
    return _Predictions(keys, table.column("target").to_pylist(), table.column("scores").to_pylist())


def _common(sets: Sequence[frozenset[Any]], seeds: Sequence[int]) -> list[frozenset[Any]]:
    """For each run the rows that all runs with its seed have."""
    groups: dict[int, frozenset[Any]] = {}
    for own, seed in zip(sets, seeds, strict=True):
        groups[seed] = groups.get(seed, own) & own
    if not all(groups.values()):
        raise RunError("the runs have no row in common; train them on the same split of the same table")
    return [groups[seed] for seed in seeds]
