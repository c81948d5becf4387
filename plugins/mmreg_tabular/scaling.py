"""Numbers brought to a common scale: by their quantiles to a normal distribution, or by mean and deviation."""

from __future__ import annotations

import bisect
import math
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Scaling = Literal["quantile", "standard", "none"]
QUANTILES = 1000
"""How many quantiles are kept of a column."""
BOUND = -NormalDist().inv_cdf(1e-7)
"""What the least and the greatest value, and whatever is beyond, become: 5.2 deviations."""
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
    def fit(cls, how: Scaling, values: NDArray[np.float64]) -> Scale:
        """Learned from the training rows' numbers (N,)."""
        if how == "none" or not len(values):
            return cls("none", [])
        if how == "standard":
            scale = float(np.abs(values).max()) or 1.0  # the squares of very large numbers are not finite
            return cls(how, [float(scale * (values / scale).mean()), float(scale * (values / scale).std())])
        levels = np.linspace(0, 1, min(QUANTILES, len(values)))
        # Interpolation may give values that are off by rounding, out of order.
        return cls(how, np.maximum.accumulate(np.quantile(values, levels)).tolist())

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
        return NormalDist().inv_cdf(share)


class Sample:
    """Numbers of a column as they come, in bounded memory: all of them, or every second, fourth, ... one.

    Args:
        most: how many are kept at most.
    """

    def __init__(self, most: int = 1 << 20) -> None:
        self.values: list[float] = []
        self.most, self.step, self.seen = most, 1, 0

    def add(self, value: float) -> None:
        """Take one more number."""
        if self.seen % self.step == 0:
            self.values.append(value)
            if len(self.values) > self.most:
                self.values, self.step = self.values[::2], 2 * self.step
        self.seen += 1
