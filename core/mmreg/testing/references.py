"""Metrics by their definition, to compare those of tasks with; only names on whose meaning everybody agrees.

Axes: N rows, K outputs. Scores (N, K) are in the task's space, and targets as it encodes them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray
from torch import Tensor


def accuracy(scores: Tensor, targets: Tensor) -> float:
    """The share of rows whose most probable class is the right one."""
    return sum(int(row.argmax()) == int(target) for row, target in zip(scores, targets, strict=True)) / len(scores)


def balanced_accuracy(scores: Tensor, targets: Tensor) -> float:
    """The share of a class's rows that are told right, averaged over the classes that rows have."""
    predicted = scores.argmax(1)
    shares = [float((predicted[targets == k] == k).double().mean()) for k in set(targets.tolist())]
    return sum(shares) / len(shares)


def log_loss(scores: Tensor, targets: Tensor) -> float:
    """Minus the mean log-probability of the right class."""
    return -sum(float(row[int(target)]) for row, target in zip(scores, targets, strict=True)) / len(scores)


def _counts(scores: Tensor, targets: Tensor) -> tuple[int, int, int, int]:
    """True positives, false positives, false negatives and right labels, over all rows and labels."""
    predicted, actual = (scores > 0).flatten().tolist(), (targets > 0.5).flatten().tolist()
    pairs = list(zip(predicted, actual, strict=True))
    hits = sum(left and right for left, right in pairs)
    return hits, sum(predicted) - hits, sum(actual) - hits, sum(left == right for left, right in pairs)


def f1_micro(scores: Tensor, targets: Tensor) -> float:
    """2 TP / (2 TP + FP + FN) over all labels of all rows, predicted where the log-odds are above 0."""
    hits, false, missed, _ = _counts(scores, targets)
    return 2 * hits / (2 * hits + false + missed) if hits else 0.0


def precision_micro(scores: Tensor, targets: Tensor) -> float:
    """TP / (TP + FP) over all labels of all rows, predicted as for `f1_micro`."""
    hits, false, _, _ = _counts(scores, targets)
    return hits / (hits + false) if hits else 0.0


def recall_micro(scores: Tensor, targets: Tensor) -> float:
    """TP / (TP + FN) over all labels of all rows, predicted as for `f1_micro`."""
    hits, _, missed, _ = _counts(scores, targets)
    return hits / (hits + missed) if hits else 0.0


def hamming_loss(scores: Tensor, targets: Tensor) -> float:
    """The share of labels that are wrong."""
    return 1 - _counts(scores, targets)[3] / targets.numel()


def subset_accuracy(scores: Tensor, targets: Tensor) -> float:
    """The share of rows with all labels right."""
    return sum(hamming_loss(row, target) == 0 for row, target in zip(scores, targets, strict=True)) / len(scores)


def r2(scores: Tensor, targets: Tensor) -> float:
    """One minus the squared error over that of the mean, averaged over the outputs; in any linear units the same."""
    shares = []
    for predicted, actual in zip(scores.double().T, targets.double().T, strict=True):
        shares.append(1 - float(((predicted - actual) ** 2).sum() / ((actual - actual.mean()) ** 2).sum()))
    return sum(shares) / len(shares)


REFERENCES: Mapping[tuple[str, str], Callable[[Tensor, Tensor], float]] = {
    ("log_probabilities", "accuracy"): accuracy,
    ("log_probabilities", "balanced_accuracy"): balanced_accuracy,
    ("log_probabilities", "log_loss"): log_loss,
    ("log_odds", "f1_micro"): f1_micro,
    ("log_odds", "hamming_loss"): hamming_loss,
    ("log_odds", "precision_micro"): precision_micro,
    ("log_odds", "recall_micro"): recall_micro,
    ("log_odds", "subset_accuracy"): subset_accuracy,
    ("values", "r2"): r2,
}
"""By the space of a task's scores and the metric's name."""


def mae(predicted: NDArray[np.float64], actual: NDArray[np.float64]) -> float:
    """The mean absolute error."""
    return float(np.abs(predicted - actual).mean())


def mse(predicted: NDArray[np.float64], actual: NDArray[np.float64]) -> float:
    """The mean squared error."""
    return float(((predicted - actual) ** 2).mean())


def rmse(predicted: NDArray[np.float64], actual: NDArray[np.float64]) -> float:
    """The root of the mean squared error of each output, averaged over the outputs."""
    return float(np.sqrt(((predicted - actual) ** 2).mean(0)).mean())


IN_UNITS: Mapping[str, Callable[[NDArray[np.float64], NDArray[np.float64]], float]] = {
    "mae": mae,
    "mse": mse,
    "rmse": rmse,
}
"""By name, of predicted and actual numbers (N, K) in the target column's own units."""
