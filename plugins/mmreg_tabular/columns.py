"""What is learned of one column from the training rows, and how a cell of it becomes numbers.

A column gives one or more numbers a row (NaN where its cell is empty), or one category.
"""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from mmreg.errors import OptionError, ValueLoadError
from mmreg_tabular.cells import KINDS, TRUTH_VALUES, Kind, category, date, floats, kinds_of, number
from mmreg_tabular.scaling import Sample, Scale, Scaling, shared

MOST_SEEN = 1 << 17
"""Different categories of a column that are counted at a time; beyond that, those seen once are forgotten."""
SAMPLED = 1 << 20
"""Numbers of a column that are kept to learn its scale; of more, every second, fourth, ... one."""
MISSING, OTHER = 0, 1
"""The numbers of a column's two categories that every column has: an empty cell, and one that is unknown or rare."""
CYCLES: Mapping[str, float] = {"day of the year": 365.2425, "day of the week": 7.0, "time of the day": 1.0}
"""Cycles of dates, in days."""


class NumberColumn:
    """Numbers, scaled.

    Args:
        scale: how.

    Attributes:
        width: how many numbers a cell gives.
    """

    width = 1

    def __init__(self, scale: Scale) -> None:
        self.scale = scale

    def __call__(self, value: Any) -> list[float]:
        """The number, scaled."""
        return [math.nan if value is None else self.scale(number(value))]

    def state(self) -> dict[str, Any]:
        """The scale."""
        return {"kind": "number", "how": self.scale.how, "facts": self.scale.facts}


class DateColumn:
    """Dates: the time since 1970, scaled, and the sine and cosine of its place in each cycle.

    Args:
        scale: of the days since 1970.
        cycles: those in which the training rows differ.

    Attributes:
        width: how many numbers a cell gives.
    """

    def __init__(self, scale: Scale, cycles: list[str]) -> None:
        self.scale, self.cycles = scale, cycles
        self.width = 1 + 2 * len(cycles)

    def __call__(self, value: Any) -> list[float]:
        """The time, and two numbers a cycle."""
        if value is None:
            return [math.nan] * self.width
        days = date(value)
        angles = [2 * math.pi * (days % CYCLES[cycle]) / CYCLES[cycle] for cycle in self.cycles]
        return [self.scale(days), *(part for angle in angles for part in (math.sin(angle), math.cos(angle)))]

    def state(self) -> dict[str, Any]:
        """The scale and the cycles."""
        return {"kind": "date", "how": self.scale.how, "facts": self.scale.facts, "cycles": self.cycles}


class CategoryColumn:
    """Categories by name; what is empty, and what is unknown or rare, has a category each.

    Args:
        names: the known ones, the most frequent first.
        truth_values: whether training met truth values alone; then 1 and 0 are met as such, too.

    Attributes:
        size: how many categories there are.
    """

    def __init__(self, names: list[str], truth_values: bool = False) -> None:
        self.names, self.truth_values = names, truth_values
        self.size = 2 + len(names)
        # Of a name that comes twice, as a truth value does in the state of version 1, the more frequent one is met.
        self._numbers = {name: len(names) + 1 - position for position, name in enumerate(reversed(names))}
        for name in filter(self._numbers.__contains__, TRUTH_VALUES if truth_values else ()):
            self._numbers |= dict.fromkeys(TRUTH_VALUES[name], self._numbers[name])

    def __call__(self, value: Any) -> int:
        """The category's number."""
        return MISSING if value is None else self._numbers.get(category(value), OTHER)

    def state(self) -> dict[str, Any]:
        """The names, and whether they are of truth values."""
        return {"kind": "category", "names": self.names, "truth_values": self.truth_values}


Column = NumberColumn | DateColumn | CategoryColumn
"""One column; what it has learned is its `state`, as plain JSON data."""


def column_of(state: Mapping[str, Any]) -> Column:
    """The column that a state is of."""
    if state["kind"] == "category":
        return CategoryColumn(list(state["names"]), state["truth_values"])
    scale = Scale(state["how"], list(state["facts"]))
    return NumberColumn(scale) if state["kind"] == "number" else DateColumn(scale, list(state["cycles"]))


def migrated_column(state: Mapping[str, Any]) -> Mapping[str, Any]:
    """The state that version 1 gave of a column, in which each spelling of a truth value was a category of its own."""
    if state["kind"] != "category":
        return state
    return {**state, "names": [category(name) for name in state["names"]], "truth_values": False}


class ColumnFit:
    """Learns a column from its cells, some at a time, in bounded memory.

    Args:
        name: the column's, for messages.
        kind: what it is; None to find out by its cells.
        columns: how many columns are learned at once: they share what is kept.
    """

    def __init__(self, name: str, kind: Kind | None = None, columns: int = 1) -> None:
        self.name, self.kind, self.columns = name, kind, columns
        self._possible = set(KINDS) if kind is None else {kind}
        self._numbers, self._dates = Sample(shared(SAMPLED, columns)), Sample(shared(SAMPLED, columns))
        self._counts: Counter[str] = Counter()
        self._most_seen = shared(MOST_SEEN, columns)
        self._uncounted = self._truth_values = True

    def add(self, values: Sequence[Any]) -> None:
        """Take training rows' cells; None where one is empty.

        Raises:
            OptionError: no kind of column holds such cells.
        """
        there = [value for value in values if value is not None]
        types = set(map(type, there))
        # Most columns hold numbers alone: they are counted as categories only once there is something else as well.
        if self._uncounted and "number" in self._possible and types <= {int, float}:
            if there and self.kind is None:
                self._possible &= {"number", "category"}
            self._numbers.add(floats(there))
            return
        if self._uncounted and "category" in self._possible:
            self._count((category(value), self._numbers.step) for value in self._numbers.values)
        self._uncounted = False
        cells = Counter(there).items() if types == {str} else ((value, 1) for value in there)
        for value, count in cells:
            self._add(value, count)

    def _add(self, value: Any, count: int) -> None:
        try:
            possible = set(kinds_of(value))
        except ValueLoadError as error:
            raise OptionError(
                f"columns: {self.name} holds {error}; leave it out, or read it by another input"
            ) from error
        if self.kind is None:
            self._possible &= possible
        for kind, sample, read in (("number", self._numbers, number), ("date", self._dates, date)):
            if kind in self._possible and kind in possible:
                with contextlib.suppress(ValueLoadError):  # which `load` tells, with its row
                    sample.add(np.full(count, read(value)))
        if "category" in self._possible:
            with contextlib.suppress(ValueLoadError):
                self._count([(category(value), count)])

    def _count(self, names: Iterable[tuple[str, int]]) -> None:
        for name, count in names:
            self._counts[name] += count
            self._truth_values = self._truth_values and name in TRUTH_VALUES
            if len(self._counts) > self._most_seen:
                self._counts = Counter({name: count for name, count in self._counts.items() if count > 1})
                if len(self._counts) > self._most_seen // 2:
                    self._counts = Counter(dict(self._counts.most_common(self._most_seen // 2)))

    def column(self, scaling: Scaling, min_frequency: int, max_categories: int) -> Column:
        """What was learned.

        Args:
            scaling: of numbers and dates.
            min_frequency: how often a category must have occurred to be known.
            max_categories: how many are known at most.
        """
        kind = next(kind for kind in KINDS if kind in self._possible)
        if kind == "category":
            # By name where counts are equal, so that the order of rows changes nothing.
            common = sorted(self._counts.items(), key=lambda item: (-item[1], item[0]))
            names = [name for name, count in common[:max_categories] if count >= min_frequency]
            return CategoryColumn(names, bool(names) and self._truth_values)
        if kind == "number":
            return NumberColumn(Scale.fit(scaling, np.array(self._numbers.values), self.columns))
        days = np.array(self._dates.values)
        cycles = [
            cycle
            for cycle, period in CYCLES.items()
            if len(days) and np.ptp(days % period) > 0 and np.ptp(days) >= 0.25 * period
        ]
        return DateColumn(Scale.fit(scaling, days, self.columns), cycles)
