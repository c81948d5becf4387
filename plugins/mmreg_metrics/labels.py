"""Metrics of a row's labels together: whether all are right, and whether the true ones come first.

Axes: N rows, K labels.
"""

from __future__ import annotations

import math
from typing import Annotated, ClassVar

import torch
from annotated_types import Gt, Lt
from torch import Tensor

from mmreg import Metric, Space

_OF_LABELS: frozenset[Space] = frozenset({"log_odds"})


class ExactMatch(Metric):
    """The share of rows all of whose labels are right.

    Args:
        threshold: the probability above which a label is predicted.
    """

    spaces: ClassVar[frozenset[Space]] = _OF_LABELS

    def __init__(self, *, num_outputs: int, threshold: Annotated[float, Gt(0), Lt(1)] = 0.5) -> None:
        self._least = math.log(threshold / (1 - threshold))

    def compute(self, scores: Tensor, targets: Tensor) -> float:
        """See `Metric`."""
        return float(((scores > self._least) == (targets > 0.5)).all(1).double().mean())


class RankingLoss(Metric):
    """Of a row's pairs of a true label and another, the share in which the true one does not score higher.

    The mean over rows; one with no label or with all of them has no such pair, and counts as 0 (Tsoumakas et al. 2010).
    """

    # Not torchmetrics' multilabel_ranking_loss: 1.9 counts some pairs of equal scores as right.
    spaces: ClassVar[frozenset[Space]] = _OF_LABELS
    more_is_better: ClassVar[bool] = False

    def __init__(self, *, num_outputs: int) -> None:
        """It needs no options."""

    def compute(self, scores: Tensor, targets: Tensor) -> float:
        """See `Metric`."""
        true = targets > 0.5
        # Highest scores first; among equal ones first those that are not true.
        order = true.to(torch.uint8).argsort(dim=1, stable=True)
        order = order.gather(1, scores.gather(1, order).argsort(dim=1, descending=True, stable=True))
        true = true.gather(1, order)
        wrong = ((~true).cumsum(1) * true).sum(1)
        pairs = true.sum(1) * (~true).sum(1)
        return float((wrong.double() / pairs.clamp(min=1)).mean())


class CoverageError(Metric):
    """How many labels, from the highest score down, hold all true ones of a row; the mean over rows.

    At best it is the mean number of true labels. A row without labels counts as 0 (Tsoumakas et al. 2010).
    """

    # Not torchmetrics' multilabel_coverage_error: 1.9 is wrong where scores are more than ten apart.
    spaces: ClassVar[frozenset[Space]] = _OF_LABELS
    more_is_better: ClassVar[bool] = False

    def __init__(self, *, num_outputs: int) -> None:
        """It needs no options."""

    def compute(self, scores: Tensor, targets: Tensor) -> float:
        """See `Metric`."""
        lowest = scores.masked_fill(targets < 0.5, float("inf")).amin(1, keepdim=True)
        return float((scores >= lowest).sum(1).double().mean())
