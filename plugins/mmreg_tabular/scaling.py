"""Numbers brought to a common scale: by their quantiles to a normal distribution, or by mean and deviation."""

from __future__ import annotations

import bisect
import math
from array import array
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Scaling = Literal["quantile", "standard", "none"]
QUANTILES = 1000
"""How many quantiles are kept of a column."""
FEW = 64
"""Columns of which as much is kept as of one."""
LEAST = 100
"""What is kept of a column, at least, however many there are."""
NORMAL = NormalDist()
BOUND = -NORMAL.inv_cdf(1e-7)
"""What the least and the greatest value, and whatever is beyond, become: 5.2 deviations."""
LARGEST = 8e307
"""What larger numbers count as where quantiles are found: the difference of two such is still finite."""
FARTHEST = 100.0
"""Deviations from the mean beyond which a number counts as being so far."""


class Scale:
    """What one column's numbers are scaled by.

    Args:
        how: which way.
        facts: of "quantile" the sorted quantiles, of "standard" the mean and the deviation, else nothing.
    """

    def __init__(self, how: Scaling, facts: list[float]) -> None:
        self.how, self.facts = how, facts

    @classmethod
    def fit(cls, how: Scaling, values: NDArray[np.float64], columns: int = 1) -> Scale:
        """Learned from the training rows' numbers (N,) of one of so many columns."""
        if how == "none" or not len(values):
            return cls("none", [])
        if how == "standard":
            scale = float(np.abs(values).max()) or 1.0  # the squares of very large numbers are not finite
            return cls(how, [float(scale * (values / scale).mean()), float(scale * (values / scale).std())])
        levels = np.linspace(0, 1, min(shared(QUANTILES, columns), len(values)))
        # Interpolation may give values that are off by rounding, out of order.
        within = values.clip(-LARGEST, LARGEST)
        return cls(how, np.maximum.accumulate(np.quantile(within, levels)).tolist())

    def __call__(self, value: float) -> float:
        """One number, scaled: of "quantile" as scikit-learn's QuantileTransformer to a normal distribution does."""
        if self.how == "none":
            return max(-3e38, min(3e38, value))  # of float32
        if self.how == "standard":
            mean, deviation = self.facts
            return max(-FARTHEST, min(FARTHEST, (value - mean) / deviation)) if deviation > 0 else 0.0
        knots = self.facts
        if knots[0] == knots[-1]:
            return 0.0 if value == knots[0] else math.copysign(BOUND, value - knots[0])
        low, high = bisect.bisect_left(knots, value), bisect.bisect_right(knots, value)
        if high == 0:
            return -BOUND
        if low == len(knots):
            return BOUND
        if low < high:  # among equal quantiles in the middle
            place = (low + high - 1) / 2
            place = 0.0 if low == 0 else len(knots) - 1.0 if high == len(knots) else place
        else:
            begin, end = knots[low - 1], knots[low]
            place = low - 1 + (value - begin) / (end - begin)
        share = place / (len(knots) - 1)
        if not 1e-7 < share < 1 - 1e-7:
            return math.copysign(BOUND, share - 0.5)
        return NORMAL.inv_cdf(share)


class Sample:
    """Numbers of a column as they come, in bounded memory: all of them, or every second, fourth, ... one.

    Args:
        most: how many are kept at most.

    Attributes:
        values: those that are kept.
        step: how many numbers each of them stands for.
    """

    def __init__(self, most: int) -> None:
        self.values = array("d")
        self.most, self.step, self._seen = most, 1, 0

    def add(self, values: NDArray[np.float64]) -> None:
        """Take more numbers (N,)."""
        self.values.frombytes(values[-self._seen % self.step :: self.step].tobytes())
        self._seen += len(values)
        while len(self.values) > self.most:
            self.values, self.step = self.values[::2], 2 * self.step


def shared(most: int, columns: int) -> int:
    """How much is kept of each of several columns: `most`, but of many columns less, as all have to fit into memory."""
    return max(LEAST, min(most, most * FEW // columns))
