"""Metrics of probabilities, whatever is decided by them.

Axes: N rows, K classes or labels.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Ge, Le
from torch import Tensor
from torch.nn.functional import one_hot

from mmreg import Metric, Space

_OF_CLASSES_OR_LABELS: frozenset[Space] = frozenset({"log_probabilities", "log_odds"})


def _probabilities(scores: Tensor, targets: Tensor) -> Tensor:
    """(N, K) float64 from 0 to 1."""
    if targets.ndim > 1:
        return scores.double().sigmoid()
    return scores.double().exp().clamp(max=1)  # rounding may leave more than one


class Brier(Metric):
    """The mean squared error of the probabilities (Brier 1950): of classes summed over them, of labels their mean."""

    spaces: ClassVar[frozenset[Space]] = _OF_CLASSES_OR_LABELS
    more_is_better: ClassVar[bool] = False

    def __init__(self, *, num_outputs: int) -> None:
        self._num_outputs = num_outputs

    def compute(self, scores: Tensor, targets: Tensor) -> float:
        """See `Metric`."""
        probabilities = _probabilities(scores, targets)
        if targets.ndim > 1:
            return float((probabilities - targets).square().mean())
        return float((probabilities - one_hot(targets, self._num_outputs)).square().sum(1).mean())


class Calibration(Metric):
    """How far probabilities are from the frequencies that they promise, in bins of equal width (Guo et al. 2017).

    Of classes it is the greatest probability of each row that counts, of labels every probability.

    Args:
        n_bins: how many bins.
        norm: the mean distance ("l1", the expected calibration error), its root mean square ("l2"), or the greatest
            one ("max").
    """

    # Not torchmetrics' calibration error: 1.9 counts probabilities of exactly one as a bin of their own.
    spaces: ClassVar[frozenset[Space]] = _OF_CLASSES_OR_LABELS
    more_is_better: ClassVar[bool] = False

    def __init__(
        self,
        *,
        num_outputs: int,
        n_bins: Annotated[int, Ge(1), Le(10_000)] = 15,
        norm: Literal["l1", "l2", "max"] = "l1",
    ) -> None:
        self._num_outputs = num_outputs
        self._n_bins = n_bins
        self._norm = norm

    def compute(self, scores: Tensor, targets: Tensor) -> float:
        """See `Metric`."""
        probabilities = _probabilities(scores, targets)
        if targets.ndim > 1:
            promised, kept = probabilities.flatten(), targets.flatten().double()
        else:
            promised, predicted = probabilities.max(1)
            kept = (predicted == targets).double()
        bins = (promised * self._n_bins).long().clamp(max=self._n_bins - 1)
        rows = torch.bincount(bins, minlength=self._n_bins)
        distances = (torch.bincount(bins, promised - kept, minlength=self._n_bins) / rows)[rows > 0].abs()
        shares = rows[rows > 0].double() / len(promised)
        if self._norm == "max":
            return float(distances.max())
        return float(shares @ distances) if self._norm == "l1" else float((shares @ distances.square()).sqrt())


class Hinge(Metric):
    """By how much the true class's logit misses a margin of one over the best other one (Crammer and Singer 2001).

    Of labels: by how much each one's log-odds miss a margin of one on their side of zero, averaged over the labels.

    Args:
        squared: whether to square what is missed.
    """

    # Not torchmetrics' hinge loss, which takes margins between probabilities, not between logits.
    spaces: ClassVar[frozenset[Space]] = _OF_CLASSES_OR_LABELS
    more_is_better: ClassVar[bool] = False

    def __init__(self, *, num_outputs: int, squared: bool = False) -> None:
        self._num_outputs = num_outputs
        self._squared = squared

    def compute(self, scores: Tensor, targets: Tensor) -> float:
        """See `Metric`."""
        wide = scores.double()
        if targets.ndim > 1:
            margins = wide * (2 * targets - 1)
        else:
            true = one_hot(targets, self._num_outputs).bool()
            margins = wide[true] - wide.masked_fill(true, -float("inf")).amax(1)
        missed = (1 - margins).clamp(min=0)
        return float((missed.square() if self._squared else missed).mean())
