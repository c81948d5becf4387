"""The learning-rate range test (Smith 2017): the loss while the rate grows step by step, and what it tells.

Axes: S steps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmreg.messages import plural
from mmreg.notebook import harmless

SMOOTHING = 0.9
"""How much of the running loss remains in a step, for the decision to stop alone."""
WORSE = 3.0
"""The test ends when the running loss is so much worse than the best: as many times the best itself, or what was gained
until then if that is more (of a loss above zero, four times the best)."""
WIDTH = 0.03
"""The deviation of the window that smooths the curve, as a share of all steps."""

ROUNDING = 1e-6
"""A fall of the smoothed loss by no more than this share of the losses is taken for rounding."""


@dataclass(frozen=True, repr=False)
class RateRange:
    """The losses of a training whose learning rate has grown from step to step.

    Attributes:
        rates: (S,) the learning rate of each step.
        losses: (S,) its loss, before the weights moved.
        diverged: whether the loss grew so much that the test ended before its last rate.
    """

    rates: Sequence[float]
    losses: Sequence[float]
    diverged: bool

    @harmless
    def __repr__(self) -> str:
        told = "no rate to suggest" if self.suggestion is None else f"suggestion {self.suggestion:.3g}"
        end = "; the loss diverged" if self.diverged else ""
        return f"<RateRange of {plural(len(self.rates), 'step')}: {told}, least loss at {self.minimum:.3g}{end}>"

    @property
    def smoothed(self) -> NDArray[np.float64]:
        """(S,) the losses, smoothed over the steps on both sides, so that the curve does not lag behind."""
        place = np.arange(len(self.losses), dtype=np.float64)
        weights = np.exp(-0.5 * ((place[:, None] - place) / max(1e-9, WIDTH * len(place))) ** 2)
        finite = np.isfinite(self.losses)
        known = np.where(finite, self.losses, 0.0)
        return np.asarray(weights @ known / np.maximum(weights @ finite, 1e-300), np.float64)

    @property
    def minimum(self) -> float:
        """The rate at which the smoothed loss was least: near the largest that can be trained with.

        The first rate if the loss never fell.
        """
        return self.rates[_least(self.smoothed)]

    @property
    def suggestion(self) -> float | None:
        """The rate at which the smoothed loss fell fastest by the rate's logarithm; None if it never fell."""
        smoothed = self.smoothed
        curve = smoothed[: _least(smoothed) + 1]
        if len(curve) < 2:
            return None
        slopes = np.gradient(curve, np.log(self.rates[: len(curve)]))
        return self.rates[int(np.argmin(slopes))]


def _least(curve: NDArray[np.float64]) -> int:
    """Where a curve is least; its first place if it does not fall by more than rounding until there."""
    least = int(np.argmin(curve))
    until = curve[: least + 1]
    return least if until.max() - until[-1] > ROUNDING * np.abs(until).max() else 0


class RangeTest:
    """Rates that grow exponentially, for as long as the loss does not diverge.

    Args:
        low: the first rate.
        high: the last one.
        steps: how many rates there are, at least 2.

    Attributes:
        over: whether no further step is to be taken.
    """

    def __init__(self, low: float, high: float, steps: int) -> None:
        self._rates: list[float] = [low * (high / low) ** (number / (steps - 1)) for number in range(steps)]
        self._losses: list[float] = []
        self._running = 0.0
        self._best = math.inf
        self._diverged = False
        self.over = False

    @property
    def rate(self) -> float:
        """The rate of the next step."""
        return self._rates[len(self._losses)]

    def add(self, loss: float) -> None:
        """Take in the loss of a step with that rate, before the weights moved."""
        self._losses.append(loss)
        self._running = SMOOTHING * self._running + (1 - SMOOTHING) * loss
        now = self._running / (1 - SMOOTHING ** len(self._losses))
        # A first loss of zero, as of rows that weigh nothing, is no measure of how large losses are.
        first = next((each for each in self._losses if each), 0.0)
        bound = self._best + WORSE * max(abs(self._best), first - self._best)
        self._diverged = not math.isfinite(now) or now > bound
        self._best = min(self._best, now)
        self.over = self._diverged or len(self._losses) == len(self._rates)

    def result(self) -> RateRange:
        """What the steps so far have shown."""
        return RateRange(self._rates[: len(self._losses)], self._losses, self._diverged)
