"""Axes of a figure: how far they go, and the round numbers on them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mmreg.sections import Chart


def limits(values: Sequence[float]) -> tuple[float, float]:
    """An axis for some finite values, a little longer than they need."""
    low, high = min(values), max(values)
    room = 0.04 * (high - low) or 0.5 * abs(high) or 1.0
    return low - room, high + room


def of_counts(chart: Chart) -> bool:
    """Whether the first axis is of whole things alone, such as epochs."""
    return not chart.unit and all(float(x).is_integer() for series in chart.series for x in series.x)


def ticks(low: float, high: float, most: int = 6, *, whole: bool = False) -> list[float]:
    """Round numbers within an axis, in steps of 1, 2 or 5 times a power of ten; of `whole` things no parts.

    Example:
        >>> ticks(0, 1), ticks(3, 47)
        ([0.0, 0.2, 0.4, 0.6, 0.8, 1.0], [10.0, 20.0, 30.0, 40.0])
    """
    span = high - low
    if not math.isfinite(span) or span <= 0:
        return [low]
    power = 10.0 ** math.floor(math.log10(span / most))
    step = next(power * factor for factor in (1, 2, 5, 10) if span / (power * factor) <= most)
    step = max(step, 1.0) if whole else step
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    digits = max(0, 1 - math.floor(math.log10(step)))
    return [round(number * step, digits) for number in range(first, last + 1)]
