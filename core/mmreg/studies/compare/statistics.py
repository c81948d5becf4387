"""Paired tests: the exact sign test of McNemar, the bootstrap over test rows, and Holm's correction.

Axes: N rows of all runs, R resamples, S runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Sample:
    """One run on its test rows.

    Attributes:
        rows: (n,) the numbers of its rows among the N rows of all runs.
        measure: its metric on some of its rows, given as positions in `rows`, each as often as it counts.
    """

    rows: NDArray[np.int64]
    measure: Callable[[NDArray[np.int64]], float]


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
    same: dict[bytes, int] = {}
    group = [same.setdefault(sample.rows.tobytes(), index) for index, sample in enumerate(samples)]
    found = np.empty((resamples, len(samples)))
    for number in range(resamples):
        counts = np.bincount(random.integers(rows, size=rows), minlength=rows)
        drawn: dict[int, NDArray[np.int64]] = {}
        for index, sample in enumerate(samples):
            if group[index] not in drawn:
                drawn[group[index]] = np.repeat(np.arange(len(sample.rows)), counts[sample.rows])
            chosen = drawn[group[index]]
            found[number, index] = sample.measure(chosen) if len(chosen) else math.nan
    return found


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
