"""What a report tells of: a run's folder, its model, and what that predicted of the held-out rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import Tensor

import mmreg
from mmreg import Run, Task
from mmreg.console import finished_report, unmeasured
from mmreg.errors import MmregError, RunError
from mmreg.messages import one_line
from mmreg_report.reading import DAMAGED, Facts, read_run
from mmreg_report.tables import measured_split


@dataclass(frozen=True)
class Target:
    """One target of a run, with the rows that have it.

    Attributes:
        name: empty where there is one alone.
        task: its own.
        scores: (n, k) in the task's space.
        targets: (n, ...) as the task encodes them.
        rows: (n,) the places of these rows among all that were predicted.
    """

    name: str
    task: Task
    scores: Tensor
    targets: Tensor
    rows: NDArray[np.int64]


@dataclass
class Subject:
    """A run, as far as it is at hand.

    Attributes:
        facts: what its folder says.
        recipe: as plain data, every default spelled out.
        plan: the same, resolved.
        model: with its weights or without; its parameters are counted.
        task: fitted.
        split: whose rows were predicted; None if there are none.
        scores: (N, K) of these rows.
        targets: (N, ...) as the task encodes them.
        keys: what the N rows are called.
        key: what `keys` are.
        run: for measuring and for looking at rows; None where the table is not at hand, or was not asked for.
        saved: the run as it was read from its folder; None of one that has just been trained.
        known: for each split that could be opened its rows, with their table.
        notes: what a reader should know of the report itself.
    """

    facts: Facts
    recipe: Mapping[str, Any]
    plan: Any
    model: Any
    task: Task
    split: str | None = None
    scores: Tensor | None = None
    targets: Tensor | None = None
    keys: list[str] = field(default_factory=list)
    key: str = "row"
    run: Run | None = None
    saved: Run | None = None
    known: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def each_target(self) -> Iterator[Target]:
        """The targets that some of the predicted rows have."""
        if self.scores is None or self.targets is None or not self.task.needs_target:
            return
        for name, view in self.task.targets().items():
            has = view.has(self.targets)
            if has.any():
                scores, targets = view.known(self.scores, self.targets)
                yield Target(name, view.task, scores, targets, np.flatnonzero(has.numpy()))

    @property
    def measured(self) -> Any:
        """The known rows that `scores` are of; None without the table."""
        return self.known.get(self.split or "")


def at_hand(run: Any) -> Subject:
    """A run that has just been trained, or fused: its folder, and the model that is in memory."""
    facts = read_run(run.folder)
    subject = Subject(facts, run.recipe, run.plan, run.model, run.model.task)
    _take_predictions(subject)
    return subject


def loaded(folder: Path, device: str | None = None, *, rows: bool = True) -> Subject:
    """A run from its folder, with its table where that is there and as it was.

    Args:
        folder: the run's.
        device: where to compute.
        rows: whether to look for the table.

    Raises:
        RunError: it is no run, or its training has not ended.
    """
    run = mmreg.load(folder, device)
    finished_report(folder)  # says by itself what is wrong with it
    try:
        facts = read_run(folder)
    except (*DAMAGED, RunError) as error:
        raise RunError(unmeasured(folder, one_line(error))) from error
    subject = Subject(facts, run.recipe, run.plan, run.model, run.task, saved=run)
    if rows:
        _take_rows(subject, run)
    if subject.measured is None:
        _take_predictions(subject)
    return subject


def _take_rows(subject: Subject, run: Run) -> None:
    """Open the rows of each split, and predict those that the figures are of."""
    split = measured_split(subject.facts)
    if split is None or split == "out_of_fold":
        return
    try:
        known = run.known_rows(split=split)
    except (MmregError, OSError) as error:
        subject.notes.append(
            f"The table is not at hand as it was at training, so rows are shown without their inputs, and no subset of "
            f"the modalities is measured: {one_line(error)}"
        )
        return
    for name in ("train", "validation", "test"):
        with suppress(MmregError, OSError):  # of a combination of runs, there may be rows of some splits alone
            subject.known[name] = known if name == split else run.known_rows(split=name)
    subject.run, subject.split = run, split
    subject.scores = run.predict_rows(known.prepared, known.rows).scores
    subject.targets = torch.from_numpy(known.targets)
    key = run.recipe.get("key")
    if key in known.table.columns:
        subject.key, subject.keys = str(key), [str(value) for value in known.table.iter_values(key, known.rows)]
    else:
        subject.keys = [str(number + 1) for number in known.table.row_numbers[known.rows].tolist()]


def _take_predictions(subject: Subject) -> None:
    """What the run's folder holds of the rows that its figures are of."""
    split = measured_split(subject.facts)
    path = subject.facts.folder / "predictions" / f"{split}.parquet"
    if split is None or not subject.task.needs_target:
        return
    try:
        table = pq.read_table(path)
        scores = torch.tensor(table.column("scores").to_pylist()).float()
        targets = subject.task.encode(table.column("target").to_pylist())
    except (OSError, KeyError, ValueError, TypeError, MmregError) as error:
        subject.notes.append(f"The predictions of the {split} rows cannot be read: {one_line(error)}")
        return
    subject.split, subject.scores, subject.targets = split, scores, torch.from_numpy(targets)
    subject.key = table.column_names[0]
    subject.keys = [str(value) for value in table.column(0).to_pylist()]
