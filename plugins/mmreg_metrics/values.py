"""Metrics of predicted numbers that are the same in whatever unit; of several numbers a row, the mean over them.

Axes: N rows, K numbers a row.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from mmreg import Metric, Space

_OF_VALUES: frozenset[Space] = frozenset({"values"})


class Kendall(Metric):
    """Kendall's tau-b: how many more pairs of rows are in the right order than in the wrong one (Kendall 1945).

    0 where all predictions or all targets are equal.
    """

    # Not torchmetrics' kendall_rank_corrcoef, which takes a time that grows with the square of the rows.
    spaces: ClassVar[frozenset[Space]] = _OF_VALUES

    def __init__(self, *, num_outputs: int) -> None:
        """It needs no options."""

    def compute(self, scores: Tensor, targets: Tensor) -> float:
        """See `Metric`."""
        columns = zip(scores.unbind(1), targets.unbind(1), strict=True)
        return sum(_tau_b(predicted, actual) for predicted, actual in columns) / scores.shape[1]


class Concordance(Metric):
    """Lin's concordance: correlation that also falls with a shift and a change of scale (Lin 1989).

    0 where all predictions or all targets are equal.
    """

    spaces: ClassVar[frozenset[Space]] = _OF_VALUES

    def __init__(self, *, num_outputs: int) -> None:
        """It needs no options."""

    def compute(self, scores: Tensor, targets: Tensor) -> float:
        """See `Metric`."""
        predicted, actual = scores.double(), targets.double()
        # Of equal numbers rounding may leave a tiny spread, so they are told by their range.
        varies = (predicted.amax(0) > predicted.amin(0)) & (actual.amax(0) > actual.amin(0))
        shift = predicted.mean(0) - actual.mean(0)
        predicted, actual = predicted - predicted.mean(0), actual - actual.mean(0)
        spread = predicted.square().mean(0) + actual.square().mean(0) + shift.square()
        agreement = 2 * (predicted * actual).mean(0) / spread
        return float(torch.where(varies, agreement, 0.0).mean())


def _tau_b(x: Tensor, y: Tensor) -> float:
    """Tau-b of two columns (N,), by Knight's method (1966)."""
    (_, x, in_x), (_, y, in_y) = (torch.unique(each, return_inverse=True, return_counts=True) for each in (x, y))
    both = x * len(in_y) + y
    pairs = len(x) * (len(x) - 1) // 2
    tied_x, tied_y, tied_both = _pairs(in_x), _pairs(in_y), _pairs(torch.unique(both, return_counts=True)[1])
    # In the order of x, and of y where x is equal, the pairs in the wrong order are the inversions of y.
    wrong = _inversions(y[both.argsort()])
    product = (pairs - tied_x) * (pairs - tied_y)
    return (pairs - tied_x - tied_y + tied_both - 2 * wrong) / product**0.5 if product else 0.0


def _pairs(counts: Tensor) -> int:
    """How many pairs of equal values there are, from how often each value occurs."""
    return int((counts * (counts - 1) // 2).sum())


def _inversions(ranks: Tensor) -> int:
    """In how many pairs of (N,) whole numbers from 0 on the first is the greater.

    A pair is counted at the highest bit in which it differs, so that the time grows with N log² N.
    """
    total = 0
    for bit in range(int(ranks.max()).bit_length()):
        above, order = (ranks >> (bit + 1)).sort(stable=True)  # those that agree in all higher bits stand together
        ones = (ranks[order] >> bit) & 1
        before = ones.cumsum(0) - ones
        first = torch.searchsorted(above, above)
        total += int(((before - before[first]) * (1 - ones)).sum())
    return total
