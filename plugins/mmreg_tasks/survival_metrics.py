"""Metrics of how soon events are to be expected.

Axes: N rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

METRICS: Mapping[str, bool] = {"c_index": True}
"""Every metric by name, with whether more is better."""

UNDEFINED = 0.5
"""The C-index of who knows nothing, and where no two rows can be compared."""


def c_index(risks: NDArray[np.float64], times: NDArray[np.float64], events: NDArray[np.bool_]) -> float:
    """Harrell's C-index (Harrell et al. 1982): the share of comparable pairs of which the riskier has its event first.

    Two rows can be compared if the one with the earlier time has an event there, or of equal times one alone has.
    Equal risks count half.

    Args:
        risks: (N,), of which the order counts.
        times: (N,).
        events: (N,), whether the event happened at the time.
    """
    # From the last time on, and at each time first who lasted longer, the censored.
    order = np.lexsort((events, -times))
    happened = events[order]
    _, risk = np.unique(risks[order], return_inverse=True)
    _, moment = np.unique(times[order], return_inverse=True)
    less, equal = _before(risk, np.zeros_like(risk))
    # Of rows with an event at the same time neither is known to be the later one.
    tied = 2 * moment + happened
    tied_less, tied_equal = _before(risk, tied)
    compared = np.arange(len(risk)) - _earlier(tied, np.ones_like(tied))
    pairs = int(compared[happened].sum())
    won = (less - tied_less + (equal - tied_equal) / 2)[happened].sum()
    return float(won / pairs) if pairs else UNDEFINED


def _before(ranks: NDArray[Any], groups: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """How many rows of a row's group that stand before it have a lesser rank, and how many an equal one, (N,) each.

    Ranks are divided by their bits, the highest first: of rows whose higher bits are equal, one with a 1 is above each
    with a 0. That takes N log^2 N steps and the memory of a few arrays.
    """
    less = np.zeros(len(ranks), np.int64)
    for bit in reversed(range(int(ranks.max(initial=0)).bit_length() or 1)):
        ones = (ranks >> bit) & 1
        less += ones * _earlier(groups, 1 - ones)
        groups = 2 * groups + ones
    return less, _earlier(groups, np.ones(len(ranks), np.int64))


def _earlier(groups: NDArray[Any], counted: NDArray[np.int64]) -> NDArray[np.int64]:
    """The sum of what is counted of the rows of a row's group that stand before it, (N,)."""
    order = np.argsort(groups, kind="stable")
    in_order = groups[order]
    before = np.cumsum(counted[order]) - counted[order]
    starts = np.flatnonzero(np.r_[True, in_order[1:] != in_order[:-1]])
    sizes = np.diff(np.r_[starts, len(order)])
    result = np.empty(len(order), np.int64)
    result[order] = before - np.repeat(before[starts], sizes)
    return result
