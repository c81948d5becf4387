"""What a first recipe says of the target: the task that fits its values, and what helps where they are odd."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa

from mmreg import registry
from mmreg.contract.target_values import TargetValues
from mmreg.contract.task import Concern, Task
from mmreg.data.lookalikes import numbers_with_commas
from mmreg.data.splits import SPLITS, split_rows
from mmreg.data.table import Table
from mmreg.data.targets import TargetColumn
from mmreg.errors import TableError
from mmreg.messages import listed, plural, shown

MANY_NUMBERS = 20
"""More different numbers than this in a target make it a regression."""
GRADES = range(3, 12)
"""So many whole numbers in a row may be grades, such as 1 to 5 stars, or else numbers of classes without an order."""
SEPARATORS = (";", "|", ",")
"""What may stand between several labels in one cell; the last one often stands in a single label, too."""
MANY_JOINED = 0.2
"""More cells with a separator than this, in parts that repeat, are several labels each."""
FEW_PARTS = 0.5
"""So many different parts for each different cell, at most, tell several labels from one with a comma in it."""


@dataclass(frozen=True)
class TaskChoice:
    """A task with its options.

    Attributes:
        name: the task's name.
        reason: why it fits.
        options: those that are no defaults.
        split: the column that names splits, or the shares of a random one, as it suits the task.
        concerns: what is odd about the targets in spite of the options.
        metric: the metric to choose the weights by; None for the task's main one, or without rows to choose by.
    """

    name: str
    reason: str
    options: Mapping[str, Any] = field(default_factory=dict)
    split: str | dict[str, Any] = ""
    concerns: Sequence[Concern] = ()
    metric: str | None = None


def choose_task(table: Table, target: str, values: TargetValues, split: str | dict[str, Any]) -> TaskChoice:
    """The task that fits a target, with the options that its own concerns call for.

    Args:
        table: the rows.
        target: the column.
        values: those of its values that are not empty.
        split: the column that names splits, or the shares of a random one.

    Raises:
        TableError: the values fit no task.
        TargetError: the values of some rows do not fit the others.
    """
    choice = _fitting(f"{table.name}: the target column {target!r}", values)
    cls: type[Task] = registry.get("task", choice.name)
    column = TargetColumn(table, target)
    if not isinstance(split, str) and cls.space == "log_odds":
        split = {**split, "stratify": True}  # lest rare labels are in no training row
    rows = dict.fromkeys(SPLITS, np.zeros(0, np.int64))
    rows |= split_rows(table, split, column.classes(cls(**choice.options), split), 0)
    rows = {name: own for name, own in column.known(rows, skip=True)[0].items() if len(own)}

    def concerns(options: Mapping[str, Any]) -> list[Concern]:
        task = cls(**options)
        column.fit(task, rows["train"])
        targets = column.encode(task, rows)
        return task.concerns({name: targets[own] for name, own in rows.items()})

    found = concerns(choice.options)
    options = {name: value for concern in found for name, value in concern.options.items()} | dict(choice.options)
    metric = next((concern.metric for concern in found if concern.metric and "validation" in rows), None)
    remaining = concerns(options) if options != choice.options else found
    return replace(choice, options=options, split=split, concerns=remaining, metric=metric)


def _fitting(what: str, column: TargetValues) -> TaskChoice:
    rows = len(column)
    if not rows:
        raise TableError(f"{what} is empty")
    told = column.distinct()
    values, codes = (list(column), np.arange(rows)) if told is None else told
    counts = np.bincount(codes, minlength=len(values)).tolist()
    if any(isinstance(value, list | np.ndarray) for value in values):
        return TaskChoice("multilabel", "its values are lists")
    cells = set(map(str, values))
    different = len(cells)
    if different == 1:
        raise TableError(f"{what} holds {shown(values[0])} in every row; there is nothing to predict")
    unique = different == rows
    numbers = _numbers(values)
    if numbers and (unique or different > MANY_NUMBERS or any(number % 1 for number in numbers)):
        return TaskChoice("regression", f"it holds {different} different numbers")
    repeated = not unique and different <= max(MANY_NUMBERS, rows / 2)
    texts = {} if numbers or not all(isinstance(v, str) for v in values) else dict(zip(values, counts, strict=True))
    if texts and all(text.strip().startswith("[") and text.strip().endswith("]") for text in texts):
        raise TableError(
            f"{what} holds lists written as text, such as {shown(values[0])}; write the labels of a row with ; between "
            "them, or the table as JSON lines or Parquet, which have lists"
        )
    commas = numbers_with_commas(pa.array(list(texts))) if texts else None
    for separator in SEPARATORS:
        if texts and _separates(separator, texts, anyway=not repeated):
            few = shown(next(text for text in texts if separator in text))
            reason = f"{separator!r} stands between several labels of a row, as in {few}"
            return TaskChoice("multilabel", reason, {"separator": separator})
    if not repeated:
        few = listed(shown(text) for text in sorted({str(value) for value in column[:3]}))
        hint = ""
        if commas:
            hint = f"; {commas.some_of(len(texts))}these have {commas.what}, so they are texts: {commas.remedy}"
        raise TableError(
            f"{what} holds {different} different values in {plural(rows, 'row')}, such as {few}; "
            f"choose a column whose values repeat, or one of numbers, by --target{hint}"
        )
    reason = f"it holds {different} different values"
    for separator in () if commas else SEPARATORS:
        if sum(count for text, count in texts.items() if separator in text) > MANY_JOINED * rows:
            instead = f"task: multilabel, separator: {separator!r}"
            reason += f"; if {separator!r} stands between several labels of a row, write {instead}"
            break
    if len(numbers) in GRADES and np.array_equal(np.diff(sorted(numbers)), np.ones(len(numbers) - 1)):
        reason += "; if these are grades from low to high, task: ordinal learns their order"
    return TaskChoice("classification", reason)


def _separates(separator: str, texts: Mapping[str, int], *, anyway: bool) -> bool:
    """Whether a character stands between several labels, rather than in a single one such as "Smith, John".

    Labels repeat in other combinations: either all of them stand alone in other cells, or there are fewer different
    ones than different cells.

    Args:
        separator: the character.
        texts: the different cells, each with how many there are of it.
        anyway: whether the cells cannot be single labels anyway, as they hardly repeat.
    """
    cells = {text: [part.strip() for part in text.split(separator) if part.strip()] for text in texts}
    joined = {part for text, parts in cells.items() if separator in text for part in parts}
    alone = {parts[0] for text, parts in cells.items() if separator not in text and parts}
    if not joined or (separator == SEPARATORS[-1] and _numbers(list(joined | alone))):  # a decimal comma
        return False
    if joined <= alone:
        return True
    share = sum(count for text, count in texts.items() if separator in text) / sum(texts.values())
    most = FEW_PARTS if separator == SEPARATORS[-1] and not anyway else 1
    return share > MANY_JOINED and len(joined | alone) <= most * len(cells)


def _numbers(values: Sequence[Any]) -> list[float]:
    """The values as numbers, those of text included; none if one of them is no number."""
    try:
        numbers = [math.nan if isinstance(value, bool) else float(value) for value in values]
    except (TypeError, ValueError):
        return []
    return numbers if all(map(math.isfinite, numbers)) else []
