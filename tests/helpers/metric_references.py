"""The metrics of the bundled tasks by their definition or by scikit-learn, to compare the tasks with.

Axes: N rows, K outputs. A reference takes scores (N, K) in the task's space, and targets as the task encodes them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from lifelines.utils import concordance_index
from numpy.typing import NDArray
from scipy import stats
from sklearn import metrics
from torch import Tensor

Reference = Callable[[Tensor, Tensor], float]

MACRO = {"average": "macro", "zero_division": 0.0}


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


def counts(scores: Tensor, targets: Tensor) -> tuple[int, int, int, int]:
    """True positives, false positives, false negatives and right labels, over all rows and labels."""
    predicted, actual = (scores > 0).flatten().tolist(), (targets > 0.5).flatten().tolist()
    pairs = list(zip(predicted, actual, strict=True))
    hits = sum(left and right for left, right in pairs)
    return hits, sum(predicted) - hits, sum(actual) - hits, sum(left == right for left, right in pairs)


def f1_micro(scores: Tensor, targets: Tensor) -> float:
    """2 TP / (2 TP + FP + FN) over all labels of all rows, predicted where the log-odds are above 0."""
    hits, false, missed, _ = counts(scores, targets)
    return 2 * hits / (2 * hits + false + missed) if hits else 0.0


def precision_micro(scores: Tensor, targets: Tensor) -> float:
    """TP / (TP + FP) over all labels of all rows, predicted as for `f1_micro`."""
    hits, false, _, _ = counts(scores, targets)
    return hits / (hits + false) if hits else 0.0


def recall_micro(scores: Tensor, targets: Tensor) -> float:
    """TP / (TP + FN) over all labels of all rows, predicted as for `f1_micro`."""
    hits, _, missed, _ = counts(scores, targets)
    return hits / (hits + missed) if hits else 0.0


def hamming_loss(scores: Tensor, targets: Tensor) -> float:
    """The share of labels that are wrong."""
    return 1 - counts(scores, targets)[3] / targets.numel()


def subset_accuracy(scores: Tensor, targets: Tensor) -> float:
    """The share of rows with all labels right."""
    return sum(hamming_loss(row, target) == 0 for row, target in zip(scores, targets, strict=True)) / len(scores)


def r2(scores: Tensor, targets: Tensor) -> float:
    """One minus the squared error over that of the mean, averaged over the outputs; in any linear units the same."""
    shares = []
    for predicted, actual in zip(scores.double().T, targets.double().T, strict=True):
        shares.append(1 - float(((predicted - actual) ** 2).sum() / ((actual - actual.mean()) ** 2).sum()))
    return sum(shares) / len(shares)


def classes(metric: Callable[..., float], **options: Any) -> Reference:
    """A metric of scikit-learn of predicted classes."""
    return lambda scores, targets: float(metric(targets.numpy(), scores.argmax(1).numpy(), **options))


def labels(metric: Callable[..., float], **options: Any) -> Reference:
    """A metric of scikit-learn of predicted labels."""
    return lambda scores, targets: float(metric(targets.numpy() > 0.5, (scores > 0).numpy(), **options))


def probabilities(metric: Callable[..., float], **options: Any) -> Reference:
    """A metric of scikit-learn of labels' probabilities."""
    return lambda scores, targets: float(metric(targets.numpy() > 0.5, scores.double().sigmoid().numpy(), **options))


def numbers(metric: Callable[[Any, Any], float]) -> Reference:
    """A metric of numbers that is the same in all linear units, averaged over the outputs."""
    return lambda scores, targets: float(
        np.mean([metric(*pair) for pair in zip(targets.double().numpy().T, scores.double().numpy().T, strict=True)])
    )


def median_class(scores: Tensor) -> list[int]:
    """The first class up to which the probabilities come to one half at least."""
    totals = [np.cumsum(row.double().exp().numpy()) for row in scores]
    return [next(k for k, total in enumerate(row) if total >= 0.5 or k == len(row) - 1) for row in totals]


def medians(metric: Callable[..., float], **options: Any) -> Reference:
    """A metric of scikit-learn of the classes in the middle of their distributions."""
    return lambda scores, targets: float(metric(targets.numpy(), median_class(scores), **options))


ORDINAL: dict[str, Reference] = {
    "quadratic_kappa": medians(metrics.cohen_kappa_score, weights="quadratic"),
    "mae": medians(metrics.mean_absolute_error),
    "accuracy": medians(metrics.accuracy_score),
    "balanced_accuracy": medians(metrics.balanced_accuracy_score),
    "precision": medians(metrics.precision_score, **MACRO),
    "recall": medians(metrics.recall_score, **MACRO),
    "f1": medians(metrics.f1_score, **MACRO),
    "log_loss": log_loss,
}

SURVIVAL: dict[str, Reference] = {
    "c_index": lambda scores, targets: float(
        concordance_index(targets[:, 0].numpy(), -scores[:, 0].numpy(), targets[:, 1].numpy())
    )
}


def quantiles(column: Sequence[float], levels: Sequence[float]) -> dict[str, Reference]:
    """References for quantiles of a target column, within the task in units of its standard deviation."""
    deviation = float(np.std(column))

    def pinball(scores: Tensor, targets: Tensor) -> float:
        actual = deviation * targets[:, 0].double().numpy()
        predicted = deviation * scores.double().numpy()
        losses = [metrics.mean_pinball_loss(actual, predicted[:, k], alpha=q) for k, q in enumerate(levels)]
        return float(np.mean(losses))

    def mae(scores: Tensor, targets: Tensor) -> float:
        middle = list(levels).index(0.5)
        return deviation * float((scores[:, middle] - targets[:, 0]).double().abs().mean())

    return {"pinball": pinball, "mae": mae}


CLASSIFICATION: dict[str, Reference] = {
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "log_loss": log_loss,
    "precision": classes(metrics.precision_score, **MACRO),
    "recall": classes(metrics.recall_score, **MACRO),
    "f1": classes(metrics.f1_score, **MACRO),
    "mcc": classes(metrics.matthews_corrcoef),
    "kappa": classes(metrics.cohen_kappa_score),
    "auroc": lambda scores, targets: float(
        metrics.roc_auc_score(targets.numpy(), scores.double().exp().numpy(), multi_class="ovr")
    ),
}

MULTILABEL: dict[str, Reference] = {
    "f1_micro": f1_micro,
    "hamming_loss": hamming_loss,
    "precision_micro": precision_micro,
    "recall_micro": recall_micro,
    "subset_accuracy": subset_accuracy,
    "precision_macro": labels(metrics.precision_score, **MACRO),
    "recall_macro": labels(metrics.recall_score, **MACRO),
    "f1_macro": labels(metrics.f1_score, **MACRO),
    "auroc": probabilities(metrics.roc_auc_score, average="macro"),
    "average_precision": probabilities(metrics.average_precision_score, average="macro"),
    "log_loss": lambda scores, targets: float(
        np.mean(
            [
                metrics.log_loss(actual, predicted, labels=[0, 1])
                for actual, predicted in zip(targets.T, scores.double().sigmoid().T, strict=True)
            ]
        )
    ),
}


def regression(column: Sequence[Any]) -> dict[str, Reference]:
    """References for the numbers of a target column, within the task in units of its standard deviation."""
    deviations = np.array(column, np.float64).reshape(len(column), -1).std(0)

    def of_errors(metric: Callable[[Any], Any]) -> Reference:
        return lambda scores, targets: float(np.mean(metric((scores - targets).double().numpy() * deviations)))

    return {
        "mae": of_errors(np.abs),
        "mse": of_errors(np.square),
        "rmse": of_errors(lambda errors: np.sqrt(np.square(errors).mean(0))),
        "r2": r2,
        "explained_variance": numbers(metrics.explained_variance_score),
        "pearson": numbers(lambda actual, predicted: np.corrcoef(actual, predicted)[0, 1]),
        "spearman": numbers(lambda actual, predicted: stats.spearmanr(actual, predicted)[0]),
    }


def _ranks(scores: Tensor) -> list[NDArray[np.float64]]:
    """For the two directions between two inputs' vectors side by side, the rank of each row's partner, by sorting."""
    left, right = (half.double().numpy() for half in scores.chunk(2, 1))
    found = []
    for similar in (left @ right.T, right @ left.T):
        own = np.diag(similar)[:, None]
        above, level = (similar > own + 1e-6).sum(1), (np.abs(similar - own) <= 1e-6).sum(1)
        found.append(np.stack([above + 1, above + level]).astype(np.float64))  # ties may be sorted either way
    return found


def _over_ranks(figure: Callable[[float], float]) -> Callable[[Tensor, Tensor], float]:
    """The mean over both directions of a figure, itself the mean over a row's possible ranks."""

    def reference(scores: Tensor, targets: Tensor) -> float:
        rows = ([np.mean([figure(r) for r in np.arange(a, b + 1)]) for a, b in each.T] for each in _ranks(scores))
        return float(np.mean([np.mean(each) for each in rows]))

    return reference


def _median_rank(scores: Tensor, targets: Tensor) -> float:
    return float(np.mean([np.median(each.mean(0)) for each in _ranks(scores)]))


CONTRASTIVE: dict[str, Callable[[Tensor, Tensor], float]] = {
    "mrr": _over_ranks(lambda rank: 1 / rank),
    **{f"recall_at_{k}": _over_ranks(lambda rank, k=k: rank <= k) for k in (1, 5, 10)},
    "median_rank": _median_rank,
}
