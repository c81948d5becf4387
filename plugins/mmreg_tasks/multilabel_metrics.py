"""Metrics of independent labels.

Axes: N rows, K labels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from mmreg_tasks.metrics import macro_ranking, per_label, precision_recall_f1

_SUMMARY = (
    *(f"{name}_{average}" for average in ("micro", "macro") for name in ("precision", "recall", "f1")),
    "subset_accuracy",
    "hamming_loss",
)

_FURTHER: Mapping[str, Callable[[Tensor, Tensor], float | None]] = {
    "auroc": lambda scores, positive: macro_ranking("auroc", scores, positive),
    "average_precision": lambda scores, positive: macro_ranking("average_precision", scores, positive),
    "log_loss": lambda scores, positive: nn.functional.binary_cross_entropy_with_logits(
        scores, positive.to(scores.dtype)
    ).item(),
}

_LESS_IS_BETTER = frozenset({"hamming_loss", "log_loss"})

METRICS: Mapping[str, bool] = {name: name not in _LESS_IS_BETTER for name in (*_SUMMARY, *_FURTHER)}
"""Every metric by name, with whether more is better."""


def summary(predicted: Tensor, actual: Tensor, labels: Sequence[Any], names: Sequence[str]) -> dict[str, Any]:
    """Micro and macro precision, recall and F1, the share of rows with all labels right, and each label's own.

    Undefined ones are 0; macro averages are over all K labels, as scikit-learn's with `zero_division=0`.

    Args:
        predicted: (N, K) bool.
        actual: (N, K) bool.
        labels: the K labels.
        names: the same as text, for the keys of "per_label".
    """
    counts = (predicted & actual).sum(0), predicted.sum(0), actual.sum(0)
    own = precision_recall_f1(*counts)
    micro = precision_recall_f1(*(count.sum() for count in counts))
    wrong = predicted ^ actual
    figures = [*micro, *(values.mean() for values in own), 1 - wrong.any(1).double().mean(), wrong.double().mean()]
    return {
        **{name: figure.item() for name, figure in zip(_SUMMARY, figures, strict=True)},
        "per_label": per_label(names, *own, counts[2]),
        "labels": list(labels),
    }


def further(names: Iterable[str], scores: Tensor, positive: Tensor) -> dict[str, float | None]:
    """Those of the named metrics that `summary` does not give.

    auroc and average_precision are means over the labels that some rows have (and, for AUROC, some have not), None
    without any; log_loss is the mean binary cross entropy.

    Args:
        names: known ones.
        scores: (N, K) log-odds.
        positive: (N, K) bool.
    """
    wide = scores.double()
    return {name: _FURTHER[name](wide, positive) for name in names if name in _FURTHER}
