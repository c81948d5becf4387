"""What trained runs predicted for their test rows, with the rows matched between runs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmreg import runs
from mmreg.contract.task import Task
from mmreg.errors import RunError, TargetError
from mmreg.messages import plural
from mmreg.model.measures import Measures
from mmreg.recipe.resolve import Plan
from mmreg.runs import Run
from mmreg.studies.compare.usage import read_usage
from mmreg.training.parameters import count_trained


@dataclass(frozen=True)
class TrainedRun:
    """A run without its model and predictions.

    Attributes:
        folder: the run's folder.
        plan: its resolved recipe.
        task: fitted.
        fingerprint: that of its table.
        parameters: how many numbers were trained.
        usage: what the training used, as `read_usage` gives it.
    """

    folder: Path
    plan: Plan
    task: Task
    fingerprint: str
    parameters: int
    usage: Mapping[str, Any]

    @property
    def seed(self) -> int:
        """The seed that it was trained with."""
        return self.plan.recipe.form.training.seed


def trained_run(run: Run | str | Path) -> TrainedRun:
    """A run, or the run in a folder.

    Raises:
        RunError: it cannot be loaded.
    """
    if not isinstance(run, Run):
        run = runs.load(run, "cpu")
    parameters = count_trained(run.model, run.plan)
    return TrainedRun(run.folder, run.plan, run.task, run.fingerprint, parameters, read_usage(run.folder))


@dataclass(frozen=True)
class OwnPrediction:
    """What one modality of a fused run predicts by itself: of the rows that have it, as in `ComparedRun`."""

    rows: NDArray[np.int64]
    targets: Tensor
    scores: Tensor


@dataclass(frozen=True)
class ComparedRun(TrainedRun):
    """A run on the n test rows that it is compared by, of K classes or numbers.

    Attributes:
        rows: (n,) the numbers of its rows among those of all runs.
        targets: (n, ...) as the task encodes them.
        scores: (n, K) in the task's space.
        figures: metrics on them, as far as they are numbers.
        own: what its modalities predict by themselves, as far as they do.
    """

    rows: NDArray[np.int64]
    targets: Tensor
    scores: Tensor
    figures: Mapping[str, float]
    own: Mapping[str, OwnPrediction] = field(default_factory=dict)

    @cached_property
    def correct(self) -> NDArray[np.bool_] | None:
        """(n,) whether the class that is told is the true one; None for tasks without exclusive classes."""
        if self.task.space != "log_probabilities":
            return None
        correct: NDArray[np.bool_] = (self.task.decide(self.scores) == self.targets).numpy()
        return correct

    @cached_property
    def measures(self) -> Measures:
        """By which metrics are measured."""
        return Measures(self.task, self.plan.metrics)

    def measure(self, metric: str, chosen: NDArray[np.int64]) -> float:
        """A metric on some of the n rows, each as often as it is chosen; NaN where it is undefined on them."""
        if metric == "accuracy" and self.correct is not None:  # much faster, and the bootstrap asks thousands of times
            return float(self.correct[chosen].mean())
        at = torch.from_numpy(chosen)
        try:
            return self.measures.figure(metric, self.scores[at], self.targets[at])
        except TargetError:
            return math.nan


def with_predictions(
    trained: Sequence[TrainedRun], split: str | None, metric: str
) -> tuple[list[ComparedRun], str, int, list[str]]:
    """The runs with what they predicted, rows matched.

    Rows are matched by the recipes' `key`, or by number where all runs were trained on the same table. Runs with the
    same seed are held to the rows that all of them have.

    Args:
        trained: the runs.
        split: which rows; None for the test rows, or those of validation if a run has no test rows.
        metric: what is measured besides the task's own metrics and those of the recipes.

    Returns:
        The runs, the split, the number of rows of all runs, and what a reader should know.

    Raises:
        RunError: the runs have no such rows, or none in common, their rows cannot be matched, or the same row has
            different targets.
    """
    runs.check_same_task(trained)
    known = runs.Targets(runs.matching_key(trained))
    notes = []
    found = [runs.read_predictions(run.folder, split or "test") for run in trained]
    if split is None:
        split = "test"
        if any(table is None for table in found):
            split, found = "validation", [runs.read_predictions(run.folder, "validation") for run in trained]
            why = "as they chose the weights, figures are too good"
            notes.append(f"there are no test rows, so validation rows are compared; {why}")
    elif split == "validation":
        notes.append(
            "validation rows are compared: as they chose the weights, figures are too good; choose by them, "
            "and look at test rows once"
        )
    tables = []
    for run, table in zip(trained, found, strict=True):
        if table is None:
            raise RunError(f"{run.folder} has no predictions of {split} rows to compare")
        tables.append(table)
    keys = [runs.written_keys(run.folder, split, table) for run, table in zip(trained, tables, strict=True)]
    shared: dict[int, set[Any]] = {}  # for each seed, the rows that all of its runs have
    for run, own in zip(trained, keys, strict=True):
        shared[run.seed] = shared.get(run.seed, set(own)).intersection(own)
    if not all(shared.values()):
        raise RunError("the runs have no row in common; train them on the same split of the same table")
    lost = max(len(own) - len(shared[run.seed]) for run, own in zip(trained, keys, strict=True))
    if lost:
        most = plural(lost, f"{split} row of a run is", f"{split} rows of a run are")
        notes.append(f"up to {most} left out, as not all runs have the same")
    if any(rows != shared[trained[0].seed] for rows in shared.values()):
        notes.append(
            f"the seeds have different {split} rows, as where the split is drawn by the seed; a row counts in each "
            "seed that has it (a recipe with a split column has the same rows in all)"
        )
    numbers: dict[Any, int] = {}
    compared = []
    for run, table, own in zip(trained, tables, keys, strict=True):
        chosen = [at for at, key in enumerate(own) if key in shared[run.seed]]
        rows = np.array([numbers.setdefault(own[at], len(numbers)) for at in chosen], np.int64)
        table = table.take(chosen)
        true = table.column("target").to_pylist()
        known.add(run.folder, zip((own[at] for at in chosen), true, strict=True))
        targets = torch.from_numpy(run.task.encode(true))
        scores = torch.tensor(table.column("scores").to_pylist(), dtype=torch.float32)
        measures = Measures(run.task, run.plan.metrics)
        measured = measures.evaluate(scores, targets, [*run.plan.metric_names, metric])
        figures = {name: figure for name, figure in measured.items() if isinstance(figure, float)}
        parts = _own_predictions(run, table, rows, targets)
        compared.append(ComparedRun(**vars(run), rows=rows, targets=targets, scores=scores, figures=figures, own=parts))
    return compared, split, len(numbers), notes


def _own_predictions(
    run: TrainedRun, table: pa.Table, rows: NDArray[np.int64], targets: Tensor
) -> dict[str, OwnPrediction]:
    """What the inputs of a run predict by themselves, from the columns of its predictions."""
    found = {}
    for name in run.plan.inputs if len(run.plan.inputs) > 1 else ():
        if f"scores/{name}" in table.column_names:
            values = table.column(f"scores/{name}")
            there = np.asarray(values.is_valid(), dtype=bool)
            scores = torch.tensor(values.drop_null().to_pylist(), dtype=torch.float32)
            scores = scores.reshape(-1, run.task.num_outputs)  # no row may have it
            found[name] = OwnPrediction(rows[there], targets[torch.from_numpy(there)], run.task.scores(scores))
    return found
