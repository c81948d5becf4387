"""Metrics of exclusive classes.

Axes: N rows, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from mmreg_tasks.metrics import macro_ranking, per_label, precision_recall_f1, wilson

CALIBRATION_BINS = 15
"""Bins of equal width of the expected calibration error, as in Guo et al. 2017."""


def confusion_matrix(predicted: Tensor, targets: Tensor, num_classes: int) -> Tensor:
    """How often each class (rows: truth) was predicted as each (columns), (K, K) int64, from (N,) int64 classes."""
    return torch.bincount(targets * num_classes + predicted, minlength=num_classes**2).view(num_classes, num_classes)


def summary(confusion: Tensor, labels: Sequence[Any], names: Sequence[str]) -> dict[str, Any]:
    """Accuracy, macro precision, recall and F1, and each class's own, from a confusion matrix (K, K).

    The macro averages are over the classes that occur, in truth or prediction; undefined ones count as 0. These are
    scikit-learn's with `zero_division=0`.

    Args:
        confusion: rows are truth.
        labels: the K labels.
        names: the same as text, for the keys of "per_class".
    """
    hits, predicted, actual = confusion.diag(), confusion.sum(0), confusion.sum(1)
    precision, recall, f1 = precision_recall_f1(hits, predicted, actual)
    occurs = (predicted + actual) > 0
    right, rows, most = int(hits.sum()), int(actual.sum()), int(actual.argmax())
    return {
        "accuracy": right / rows,
        "precision": precision[occurs].mean().item(),
        "recall": recall[occurs].mean().item(),
        "f1": f1[occurs].mean().item(),
        "per_class": per_label(names, precision, recall, f1, actual),
        "confusion": confusion.tolist(),
        "labels": list(labels),
        "intervals": {"accuracy": wilson(right, rows)},
        "baseline": {"prediction": labels[most], "accuracy": int(actual[most]) / rows},
    }


def log_odds(scores: Tensor) -> Tensor:
    """The log-odds of each class against all others, (N, K), of log-probabilities.

    They still tell rows apart whose probabilities are all rounded to 1: the probability of the others is summed over
    them, not taken as what is left to one.
    """
    rest = torch.log1p(-scores.exp())  # exact up to a probability of a half
    best = scores.argmax(1, keepdim=True)
    return scores - rest.scatter(1, best, scores.scatter(1, best, -torch.inf).logsumexp(1, keepdim=True))


def _ranking(which: Literal["auroc", "average_precision"]) -> Callable[[Tensor, Tensor], float | None]:
    def ranking(scores: Tensor, targets: Tensor) -> float | None:
        return macro_ranking(which, log_odds(scores), nn.functional.one_hot(targets, scores.shape[1]).bool())

    return ranking


def log_loss(scores: Tensor, targets: Tensor) -> float:
    """Minus the mean log-probability of the true classes (N,), from log-probabilities (N, K)."""
    # Clipped where scikit-learn clips, so that one impossible row does not make it infinite.
    floor = math.log(torch.finfo(torch.float64).eps)
    return nn.functional.nll_loss(scores.log_softmax(1).clamp(min=floor), targets).item()


def _top(count: int) -> Callable[[Tensor, Tensor], float]:
    def top(scores: Tensor, targets: Tensor) -> float:
        # Of equal scores the first class comes first, as argmax has it.
        true = scores.gather(1, targets[:, None])
        earlier = torch.arange(scores.shape[1]) < targets[:, None]
        before = (scores > true) | ((scores == true) & earlier)
        return (before.sum(1) < count).double().mean().item()

    return top


def balanced_accuracy(confusion: Tensor) -> float:
    """The mean recall of the classes that rows have, from a confusion matrix (K, K)."""
    actual = confusion.sum(1)
    return (confusion.diag().double() / actual)[actual > 0].mean().item()


def _balanced_accuracy(scores: Tensor, targets: Tensor) -> float:
    return balanced_accuracy(confusion_matrix(scores.argmax(1), targets, scores.shape[1]))


def _mcc(scores: Tensor, targets: Tensor) -> float | None:
    """Matthews' correlation of K classes (Gorodkin 2004).

    Not torchmetrics', which with two classes gives something else than 0 where one of them is never predicted.
    """
    confusion = confusion_matrix(scores.argmax(1), targets, scores.shape[1]).double()
    rows, predicted, actual = confusion.sum(), confusion.sum(0), confusion.sum(1)
    if (actual == rows).any():
        return None
    covariance = confusion.trace() * rows - predicted @ actual
    spread = (rows**2 - predicted @ predicted) * (rows**2 - actual @ actual)
    return (covariance / spread.sqrt()).item() if spread > 0 else 0.0


def _kappa(scores: Tensor, targets: Tensor) -> float | None:
    confusion = confusion_matrix(scores.argmax(1), targets, scores.shape[1]).double()
    rows, predicted, actual = confusion.sum(), confusion.sum(0), confusion.sum(1)
    if (actual == rows).any():
        return None
    agreed, by_chance = confusion.trace() / rows, predicted @ actual / rows**2
    return ((agreed - by_chance) / (1 - by_chance)).item()


def _ece(scores: Tensor, targets: Tensor) -> float:
    """Not torchmetrics', which counts probabilities of exactly one as a bin of their own."""
    probability, predicted = scores.exp().max(1)
    bins = (probability * CALIBRATION_BINS).long().clamp(max=CALIBRATION_BINS - 1)
    gaps = torch.bincount(bins, probability - (predicted == targets).double())
    return (gaps.abs().sum() / len(targets)).item()


_FURTHER: Mapping[str, Callable[[Tensor, Tensor], float | None]] = {
    "auroc": _ranking("auroc"),
    "average_precision": _ranking("average_precision"),
    "balanced_accuracy": _balanced_accuracy,
    "ece": _ece,
    "kappa": _kappa,
    "log_loss": log_loss,
    "mcc": _mcc,
    "top_2": _top(2),
    "top_3": _top(3),
    "top_5": _top(5),
    "top_10": _top(10),
}

_LESS_IS_BETTER = frozenset({"ece", "log_loss"})

METRICS: Mapping[str, bool] = {
    name: name not in _LESS_IS_BETTER for name in ("accuracy", "precision", "recall", "f1", *_FURTHER)
}
"""Every metric by name, with whether more is better."""


def further(names: Iterable[str], scores: Tensor, targets: Tensor) -> dict[str, float | None]:
    """Those of the named metrics that `summary` does not give.

    auroc and average_precision are macro averages, one class versus the rest, without the classes that no row has;
    balanced_accuracy is the mean recall of the classes that rows have; ece is the expected calibration error of the
    greatest probability; top_N is the share of rows whose class is among the N most probable; mcc and kappa are
    Matthews' correlation and Cohen's kappa. Of rows of one class auroc, mcc and kappa are None: they are undefined,
    whatever is predicted.

    Args:
        names: known ones.
        scores: (N, K) log-probabilities.
        targets: (N,) int64.
    """
    wide = scores.double()
    return {name: _FURTHER[name](wide, targets) for name in names if name in _FURTHER}
