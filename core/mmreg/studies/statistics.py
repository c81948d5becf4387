"""Paired tests: the exact sign test of McNemar, the bootstrap over test rows, and Holm's correction.

Axes: N rows of all runs, R resamples, S runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Sample = tuple[NDArray[np.int64], Callable[[NDArray[np.int64]], float]]
"""One run's (n,) rows by their numbers among the N rows of all runs, and its metric on some of them.

The metric is given positions in the n rows, each as often as it counts.
"""


def mcnemar(wins: int, losses: int) -> float:
    """The two-sided p-value of McNemar's test in its exact form (Edwards 1948): a binomial test of the discordant rows.

    It holds for any number of rows, where the chi-squared approximation needs about 25 discordant ones.

    Args:
        wins: rows on which only the first model is right.
        losses: rows on which only the second model is right.
    """
    count, least = wins + losses, min(wins, losses)
    if wins == losses:
        return 1.0
    # log C(n, k), one from the other, as the coefficients themselves overflow.
    steps = np.log(np.arange(count, count - least, -1)) - np.log(np.arange(1, least + 1))
    logs = np.concatenate([[0.0], np.cumsum(steps)]) - count * math.log(2)
    return min(1.0, 2.0 * float(np.exp(logs).sum()))


def bootstrap(samples: Sequence[Sample], rows: int, resamples: int, seed: int) -> NDArray[np.float64]:
    """Every run's metric, (R, S), on the same R draws of N rows with replacement (Efron 1979).

    As all runs see the same draws, differences between them are paired. Where runs have different rows (each seed a
    split of its own), a row counts in all of its runs as often as it is drawn: rows are what is sampled, not
    predictions.

    Args:
        samples: the runs.
        rows: N.
        resamples: R.
        seed: of the draws.
    """
    random = np.random.default_rng(seed)
    alike: dict[bytes, int] = {}  # the first run with the same rows, whose draws are the same
    groups = [alike.setdefault(own.tobytes(), index) for index, (own, _) in enumerate(samples)]
    figures = np.empty((resamples, len(samples)))
    for number in range(resamples):
        counts = np.bincount(random.integers(rows, size=rows), minlength=rows)
        drawn: dict[int, NDArray[np.int64]] = {}
        for index, (group, (own, measure)) in enumerate(zip(groups, samples, strict=True)):
            if group == index:
                drawn[group] = np.repeat(np.arange(len(own)), counts[own])
            figures[number, index] = measure(drawn[group]) if len(drawn[group]) else math.nan
    return figures


def interval(resampled: NDArray[np.float64], level: float = 0.95) -> tuple[float, float] | None:
    """The percentile interval of a bootstrap distribution (R,); None if the metric is undefined on the draws."""
    finite = resampled[np.isfinite(resampled)]
    if len(finite) < 2:
        return None
    low, high = np.percentile(finite, [50 * (1 - level), 50 * (1 + level)])
    return float(low), float(high)


def bootstrap_p(difference: float, resampled: NDArray[np.float64], rows: int) -> float:
    """The two-sided p-value of a difference, from the normal distribution with the bootstrap's standard error.

    Counting draws beyond zero could give nothing below 1 / R, which no correction for many pairs would leave
    significant. No p-value is below 2 ** (1 - N), the least that any test of N paired rows without further
    assumptions can give.

    Args:
        difference: what was measured.
        resampled: (R,) the same on the draws.
        rows: N.
    """
    finite = resampled[np.isfinite(resampled)]
    error = float(finite.std(ddof=1)) if len(finite) > 1 else math.nan
    if difference == 0 or math.isnan(error):
        return 1.0
    p = math.erfc(abs(difference) / error / math.sqrt(2)) if error > 0 else 0.0
    return max(p, 2.0 ** (1 - rows))


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values corrected for their number (Holm 1979), so that the chance of any false claim stays below the level."""
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    adjusted = [0.0] * len(p_values)
    greatest = 0.0
    for rank, index in enumerate(order):
        greatest = max(greatest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = greatest
    return adjusted
