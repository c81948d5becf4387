"""A table's targets: which rows have one, how the task encodes them, and the weight of each row's loss.

Axes: N rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray

from mmreg.contract.target_values import PART, TargetRecords, TargetValues
from mmreg.contract.task import Task
from mmreg.data.table import Table
from mmreg.errors import TargetError
from mmreg.messages import listed, plural, shown

Reads = str | Mapping[str, str] | None
"""The column that a target is read from; several by what its task reads of them; None for a task without a target."""

Splits = Mapping[str, NDArray[np.int64]]
"""The row numbers of each split."""

MOST = float(np.finfo(np.float32).max)
"""The largest weight, and sum of weights."""


class TargetColumn:
    """What is to be predicted: a column, or one for each of several targets.

    Args:
        table: the rows.
        columns: the column of each target, by its name; that of a single one is "", and None for a task without a
            target, to which every row is known. Of a target that is read from several columns these by what its task
            reads of them.

    Attributes:
        columns: as given.
        values: (N,) the targets; null without a column. A target of several columns is a dict of their values, and
            missing where one of these is.

    Raises:
        TableError: there is no such column.
        TargetError: one of several columns holds Python objects.
    """

    def __init__(self, table: Table, columns: Reads | Mapping[str, Reads]) -> None:
        self.table = table
        self.columns: dict[str, Reads] = dict(columns) if isinstance(columns, Mapping) else {"": columns}
        self.parts = {name: _values(table, reads) for name, reads in self.columns.items()}
        single = self.parts.get("")
        self.values = TargetRecords(self.parts) if single is None else single

    @property
    def _told(self) -> str:
        names = [name for reads in self.columns.values() for name in column_names(reads)]
        if "" not in self.columns:
            return f"any of the target columns {listed(map(repr, names))}"
        return f"the target {'column' if len(names) == 1 else 'columns'} {listed(map(repr, names))}"

    def known(self, splits: Splits, *, skip: bool) -> tuple[dict[str, NDArray[np.int64]], list[str]]:
        """The splits without rows whose target is empty or not finite, and what a person should know of these.

        Raises:
            TargetError: there are such rows and they are not to be skipped, or no other training row is there.
        """
        text = self.lacking(np.concatenate(list(splits.values())))
        if not text:
            return dict(splits), []
        if not skip:
            raise TargetError(f"{text}; fill them, remove them, or set on_bad: skip")
        empty = self.missing()
        kept = {split: rows[~empty[rows]] for split, rows in splits.items()}
        if not len(kept["train"]):
            raise TargetError(f"{text}: no training row is left")
        return kept, [f"{text}; skipped"]

    def lacking(self, rows: NDArray[np.int64]) -> str:
        """How many of these rows have no target, or none that is finite, and which is the first; empty if all have."""
        found = np.sort(rows[self.missing()[rows]])
        if not len(found):
            return ""
        first_value = self.values[int(found[0])]
        value = "value" if self.values.is_null()[found].all() else "finite value"
        first = "empty" if first_value is None or "" not in self.columns else shown(first_value)
        return (
            f"{plural(len(found), 'row has', 'rows have')} no {value} in {self._told} "
            f"(first: {self.table.where(found[0])}: {first})"
        )

    def missing(self) -> NDArray[np.bool_]:
        """Which rows have no target, or one that is not finite, (N,)."""
        return np.zeros(len(self.table), bool) if self._has_none else self.values.missing()

    def true(self, rows: NDArray[np.int64]) -> list[Any]:
        """The targets of some rows as the table has them; of several a dict each, and None without a column."""
        single = self.columns.get("")
        if isinstance(single, str):
            return list(self.table.iter_values(single, rows))
        return [None] * len(rows) if self._has_none else list(self.values.select(rows))

    @property
    def _has_none(self) -> bool:
        """Whether it stands for a task without a target."""
        return "" in self.columns and self.columns[""] is None

    def classes(self, task: Task, split: object) -> NDArray[Any] | None:
        """What a random split may draw evenly, (N,): a row's class, or if the split asks for it its rarest label.

        They are numbers, equal where the classes are written alike.

        As of each class some row is for training, a rare label is seldom in another split alone.

        Args:
            task: one that is fitted later on; it learns all labels here.
            split: the recipe's.

        Returns:
            None if there are no classes, or none that are asked for.
        """
        name = stratifying(task, split)
        if name is None:
            return None
        values, own = self.parts[name], task.target_tasks[name]
        if own.space == "log_probabilities":
            return _class_numbers(values)
        rows = np.flatnonzero(~values.missing())
        _fit(own, values.select(rows), self._place("train"))
        classes = np.full(len(values), -1)
        classes[rows] = rarest_labels(own.encode_column(values.select(rows)) > 0)
        return classes

    def fit(self, task: Task, rows: NDArray[np.int64]) -> None:
        """Let a task learn its labels from the training rows.

        Raises:
            TargetError: they do not fit the task.
        """
        _fit(task, self.values.select(rows), self._place("train"))

    def encode(self, task: Task, splits: Splits) -> NDArray[Any]:
        """The targets as a task encodes them, (N, ...); zeros outside the splits.

        Raises:
            TargetError: some do not fit the task; says in which split.
        """
        encoded: NDArray[Any] | None = None
        for split, rows in splits.items():
            if not len(rows):
                continue
            try:
                part = task.encode_column(self.values.select(rows))
            except TargetError as error:
                raise TargetError(f"{self._place(split)}: {error}{self._first_wrong(task, rows)}") from error
            if encoded is None:
                encoded = np.zeros((len(self.table), *part.shape[1:]), part.dtype)
            encoded[rows] = part
        assert encoded is not None
        return encoded

    def _place(self, split: str) -> str:
        single = self.columns.get("")
        names = column_names(single)
        of = f", {'column' if len(names) == 1 else 'columns'} {listed(map(repr, names))}" if names else ""
        return f"{self.table.name}{of}" + (f", {split} rows" if split else "")

    def _first_wrong(self, task: Task, rows: NDArray[np.int64]) -> str:
        """The first of these rows whose target does not fit the task by itself, for a message."""
        for start in range(0, len(rows), PART):
            some = rows[start : start + PART]
            try:
                task.encode(list(self.values.select(some)))
            except TargetError:
                for row in some.tolist():
                    try:
                        task.encode([self.values[row]])
                    except TargetError:
                        return f" (first: {self.table.where(row)})"
        return ""


def _values(table: Table, reads: Reads) -> TargetValues:
    """A target's values; nulls if it has no column."""
    if reads is None:
        return TargetValues(pa.chunked_array([pa.nulls(len(table))]), None)
    if isinstance(reads, str):
        return TargetValues(table.column(reads), table.objects.get(reads))
    objects = [column for column in reads.values() if column in table.objects]
    if objects:
        raise TargetError(f"{table.name}: the target column {objects[0]!r} holds Python objects, not plain values")
    columns = [table.column(column) for column in reads.values()]
    missing = np.any([TargetValues(column).missing() for column in columns], 0)
    rows = pa.table(columns, names=list(reads)).to_struct_array()
    return TargetValues(pc.if_else(pa.array(missing), pa.scalar(None, rows.type), rows))


def column_names(reads: Reads) -> list[str]:
    """The names of a target's columns."""
    return [] if reads is None else [reads] if isinstance(reads, str) else list(reads.values())


def stratifying(task: Task, split: object) -> str | None:
    """The target whose classes a random split draws evenly: the first that has any; None if none is to be.

    Args:
        task: need not be fitted.
        split: the recipe's.
    """
    spaces = {"log_probabilities"}
    if isinstance(split, Mapping) and split.get("stratify"):
        spaces.add("log_odds")  # as a class is not what a row of several labels has
    return next((name for name, own in task.target_tasks.items() if own.space in spaces), None)


def _class_numbers(column: TargetValues) -> NDArray[np.int64]:
    """For each row (N,), a number that those share whose values are written alike."""
    told = column.distinct()
    values, codes = (list(column), np.arange(len(column))) if told is None else told
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(str(value), len(numbers)) for value in values], np.int64)[codes]


def _fit(task: Task, values: TargetValues, place: str) -> None:
    try:
        task.fit_column(values)
    except TargetError as error:
        raise TargetError(f"{place}: {error}") from error


def rarest_labels(labels: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Of each row's labels (N, K) the one that fewest rows have, (N,); -1 for a row without any."""
    rarest = np.where(labels, labels.sum(0), len(labels) + 1).argmin(1)
    return np.where(labels.any(1), rarest, -1)


def loss_weights(
    task: Task, table: Table, columns: Mapping[str, str | None], targets: NDArray[Any], splits: Splits
) -> NDArray[np.float32]:
    """The weight of each row's loss (N,); see `row_weights`.

    Those of several targets act on the loss of each alone, so they go into the encoded targets, and all rows weigh 1.

    Args:
        task: fitted.
        table: the rows.
        columns: for each target a column of weights; None for equal ones.
        targets: (N, ...) as the task encodes them.
        splits: the rows that need a weight.

    Raises:
        TargetError: as for `row_weights`.
    """
    if "" in columns:
        return row_weights(task, table, columns[""], targets, splits)
    weights = {}
    for name, column in columns.items():
        if column is not None:
            has = task.targets()[name].has(torch.from_numpy(targets)).numpy()
            known = {split: rows[has[rows]] for split, rows in splits.items()}
            weights[name] = _column_weights(table, column, known)
    task.weigh(targets, weights, splits["train"])
    return np.ones(len(table), np.float32)


def row_weights(
    task: Task, table: Table, column: str | None, targets: NDArray[Any], splits: Splits
) -> NDArray[np.float32]:
    """The weight of each row's loss (N,): what a column says, times what the task makes of the encoded targets.

    Args:
        task: fitted.
        table: the rows.
        column: a column of weights; None for equal ones.
        targets: (N, ...) as the task encodes them.
        splits: the rows that need a weight.

    Raises:
        TargetError: the column holds something else than numbers of at least 0, or only zeros in a split, or so large
            or small ones that a loss cannot hold them.
    """
    weights = np.ones(len(table), np.float32) if column is None else _column_weights(table, column, splits)
    for split, rows in splits.items():
        own = task.row_weights(targets[rows])
        total = float((weights[rows] * np.maximum(own, 1.0, dtype=np.float64)).sum())
        if column is not None and total > MOST:
            raise TargetError(
                f"the weight column {column!r} adds up to {total:.3g} over the {split} rows"
                f"{', the weights of classes included' if own.max() > 1 else ''}, which is more than a loss can hold "
                f"(float32, up to {MOST:.3g}): divide all weights by the same number"
            )
        weights[rows] *= own
    return weights


def _column_weights(table: Table, column: str, splits: Splits) -> NDArray[np.float32]:
    values = TargetValues(table.column(column), table.objects.get(column))
    numbers = values.numbers()
    if numbers is None or numbers.ndim != 1:
        numbers = np.full(len(table), np.nan)
    rows = np.concatenate(list(splits.values()))

    def refuse(bad: NDArray[np.int64], must: str, found: str) -> None:
        if len(bad):
            first = f"(first: {table.where(int(bad[0]))} holds {shown(values[int(bad[0])])})"
            raise TargetError(f"the weight column {column!r} must hold {must}; {found} {first}")

    bad = rows[~(np.isfinite(numbers[rows]) & (numbers[rows] >= 0))]
    refuse(bad, "numbers of at least 0", f"{plural(len(bad), 'row does', 'rows do')} not")
    bad = rows[numbers[rows] > MOST]
    refuse(bad, f"numbers of at most {MOST:.3g} (float32)", f"{plural(len(bad), 'row holds', 'rows hold')} more")
    with np.errstate(over="ignore"):  # of rows that are in no split
        weights = numbers.astype(np.float32)
    for split, rows in splits.items():
        if len(rows) and not numbers[rows].any():
            raise TargetError(f"the weight column {column!r} is zero in every {split} row")
        if len(rows) and not weights[rows].any():
            raise TargetError(
                f"the weight column {column!r} holds at most {numbers[rows].max():.3g} in the {split} rows, which is "
                "zero for a loss (float32): multiply all weights by the same number"
            )
    return weights
