"""Metrics of classes that have an order.

Axes: N rows, K classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from mmreg_tasks.classification_metrics import balanced_accuracy, log_loss

_LESS_IS_BETTER = frozenset({"mae", "log_loss"})

METRICS: Mapping[str, bool] = {
    name: name not in _LESS_IS_BETTER
    for name in ("quadratic_kappa", "mae", "accuracy", "precision", "recall", "f1", "balanced_accuracy", "log_loss")
}
"""Every metric by name, with whether more is better."""


def _ranks_apart(num_classes: int) -> Tensor:
    """How many ranks lie between two classes, (K, K) float64."""
    ranks = torch.arange(num_classes, dtype=torch.float64)
    return (ranks[:, None] - ranks[None]).abs()


def mae(confusion: Tensor) -> float:
    """The mean number of ranks between what was predicted and the truth, from a confusion matrix (K, K)."""
    return ((confusion * _ranks_apart(len(confusion))).sum() / confusion.sum()).item()


def quadratic_kappa(confusion: Tensor) -> float:
    """Cohen's kappa with quadratic weights (Cohen 1968), from a confusion matrix (K, K).

    One minus the mean squared number of ranks between prediction and truth, divided by what it would be if the two
    were independent. It is 0 where it is undefined, as truth and prediction are one and the same class in all rows.
    """
    squared, counts = _ranks_apart(len(confusion)).square(), confusion.double()
    by_chance = (squared * torch.outer(counts.sum(1), counts.sum(0))).sum() / counts.sum()
    return 1 - ((squared * counts).sum() / by_chance).item() if by_chance > 0 else 0.0


def summary(confusion: Tensor) -> dict[str, float]:
    """What is always told, besides the metrics of classes, from a confusion matrix (K, K)."""
    return {"quadratic_kappa": quadratic_kappa(confusion), "mae": mae(confusion)}


def further(names: Iterable[str], confusion: Tensor, scores: Tensor, targets: Tensor) -> dict[str, float]:
    """Those of the named metrics that are not told anyway: balanced_accuracy and log_loss.

    Args:
        names: known ones.
        confusion: (K, K) of the labels that are told.
        scores: (N, K) log-probabilities.
        targets: (N,) int64.
    """
    found = {}
    for name in names:
        if name == "balanced_accuracy":
            found[name] = balanced_accuracy(confusion)
        elif name == "log_loss":
            found[name] = log_loss(scores.double(), targets)
    return found
