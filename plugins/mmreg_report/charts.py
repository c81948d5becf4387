"""What a figure shows, as plain data: drawn as SVG in a page, and by matplotlib in a file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class Series:
    """One curve, or one cloud of points.

    Attributes:
        name: what the legend calls it; empty for one that needs no name, such as a diagonal.
        x: along the first axis.
        y: as many; None or what is not finite leaves a gap.
        kind: a line, points, or a line that is only there to compare with.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float | None]
    kind: Literal["line", "points", "reference"] = "line"

    def finite(self) -> list[list[tuple[float, float]]]:
        """The points that can be drawn, a list for each stretch without a gap."""
        stretches: list[list[tuple[float, float]]] = [[]]
        for x, y in zip(self.x, self.y, strict=True):
            if y is not None and math.isfinite(x) and math.isfinite(y):
                stretches[-1].append((x, y))
            elif stretches[-1]:
                stretches.append([])
        return [stretch for stretch in stretches if stretch]


@dataclass(frozen=True)
class Chart:
    """Curves over one pair of axes.

    Attributes:
        title: what it shows.
        x: what the first axis is.
        y: what the second is.
        series: the curves.
        unit: whether both axes go from 0 to 1.
    """

    title: str
    x: str
    y: str
    series: Sequence[Series]
    unit: bool = False


@dataclass(frozen=True)
class Matrix:
    """Counts of rows by what is true and what was predicted.

    Attributes:
        title: what it shows.
        labels: of rows and columns.
        counts: for each true label, how many rows got each label.
        target: which one of several.
    """

    title: str
    labels: Sequence[str]
    counts: Sequence[Sequence[int]]
    target: str = ""


@dataclass(frozen=True)
class Bars:
    """Named numbers.

    Attributes:
        title: what it shows.
        axis: what the numbers are.
        values: by name.
    """

    title: str
    axis: str
    values: dict[str, float] = field(default_factory=dict)


Figure = Chart | Matrix | Bars


def limits(values: Sequence[float]) -> tuple[float, float]:
    """An axis for some finite values, a little longer than they need."""
    low, high = min(values), max(values)
    room = 0.04 * (high - low) or 0.5 * abs(high) or 1.0
    return low - room, high + room


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers within an axis, in steps of 1, 2 or 5 times a power of ten.

    Example:
        >>> ticks(0, 1), ticks(3, 47)
        ([0.0, 0.2, 0.4, 0.6, 0.8, 1.0], [10.0, 20.0, 30.0, 40.0])
    """
    span = high - low
    if not math.isfinite(span) or span <= 0:
        return [low]
    power = 10.0 ** math.floor(math.log10(span / most))
    step = next(power * factor for factor in (1, 2, 5, 10) if span / (power * factor) <= most)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    digits = max(0, 1 - math.floor(math.log10(step)))
    return [round(number * step, digits) for number in range(first, last + 1)]
