"""Metrics of exclusive classes.

Axes: N rows, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmreg_tasks.metrics import defined_or_zero, macro_ranking, per_label, precision_recall_f1

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
    return {
        "accuracy": hits.sum().item() / actual.sum().item(),
        "precision": precision[occurs].mean().item(),
        "recall": recall[occurs].mean().item(),
        "f1": f1[occurs].mean().item(),
        "per_class": per_label(names, precision, recall, f1, actual),
        "confusion": confusion.tolist(),
        "labels": list(labels),
    }


def _auroc(scores: Tensor, targets: Tensor) -> float:
    return macro_ranking("auroc", scores.exp(), nn.functional.one_hot(targets, scores.shape[1]).bool())


def _average_precision(scores: Tensor, targets: Tensor) -> float:
    return macro_ranking("average_precision", scores.exp(), nn.functional.one_hot(targets, scores.shape[1]).bool())


def _log_loss(scores: Tensor, targets: Tensor) -> float:
    # Clipped where scikit-learn clips, so that one impossible row does not make it infinite.
    floor = torch.finfo(torch.float64).eps
    return nn.functional.nll_loss(scores.log_softmax(1).clamp(min=torch.tensor(floor).log().item()), targets).item()


def _top(count: int) -> Callable[[Tensor, Tensor], float]:
    def top(scores: Tensor, targets: Tensor) -> float:
        best = scores.topk(min(count, scores.shape[1])).indices
        return (best == targets[:, None]).any(1).double().mean().item()

    return top


def _balanced_accuracy(scores: Tensor, targets: Tensor) -> float:
    confusion = confusion_matrix(scores.argmax(1), targets, scores.shape[1])
    actual = confusion.sum(1)
    return (confusion.diag().double() / actual)[actual > 0].mean().item()


def _mcc(scores: Tensor, targets: Tensor) -> float:
    from torchmetrics.functional.classification import multiclass_matthews_corrcoef

    return defined_or_zero(multiclass_matthews_corrcoef(scores.argmax(1), targets, scores.shape[1]))


def _kappa(scores: Tensor, targets: Tensor) -> float:
    from torchmetrics.functional.classification import multiclass_cohen_kappa

    return defined_or_zero(multiclass_cohen_kappa(scores.argmax(1), targets, scores.shape[1]))


def _ece(scores: Tensor, targets: Tensor) -> float:
    from torchmetrics.functional.classification import multiclass_calibration_error

    return multiclass_calibration_error(scores.exp(), targets, scores.shape[1], n_bins=CALIBRATION_BINS).item()


_FURTHER: Mapping[str, Callable[[Tensor, Tensor], float]] = {
    "auroc": _auroc,
    "average_precision": _average_precision,
    "balanced_accuracy": _balanced_accuracy,
    "ece": _ece,
    "kappa": _kappa,
    "log_loss": _log_loss,
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


def further(names: Iterable[str], scores: Tensor, targets: Tensor) -> dict[str, float]:
    """Those of the named metrics that `summary` does not give.

    auroc and average_precision are macro averages, one class versus the rest, without the classes that no row has;
    balanced_accuracy is the mean recall of the classes that rows have; ece is the expected calibration error of the
    greatest probability; top_N is the share of rows whose class is among the N most probable; mcc and kappa are
    Matthews' correlation and Cohen's kappa, 0 where undefined.

    Args:
        names: known ones.
        scores: (N, K) log-probabilities.
        targets: (N,) int64.
    """
    wide = scores.double()
    return {name: _FURTHER[name](wide, targets) for name in names if name in _FURTHER}
