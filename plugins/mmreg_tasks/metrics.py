"""What the tasks' metrics share: names, precision and recall from counts, and rankings label by label.

Axes: N rows, K classes or labels.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import NormalDist
from typing import Any, Literal

import torch
from torch import Tensor

from mmreg.errors import OptionError, TargetError
from mmreg.messages import near

Z_95 = NormalDist().inv_cdf(0.975)
"""The normal deviate of a two-sided 95 % interval."""


def check_evaluation(rows: int, names: Iterable[str], known: Mapping[str, bool]) -> None:
    """Refuse to evaluate no rows, or by a metric that the task does not know.

    Raises:
        TargetError: there are no rows.
        OptionError: an unknown metric; the message gives near matches and all that there are.
    """
    for name in names:
        if name not in known:
            raise OptionError(f"unknown metric {name!r}{near(name, known)} (this task has {', '.join(sorted(known))})")
    if not rows:
        raise TargetError("there are no rows to evaluate")


def precision_recall_f1(hits: Tensor, predicted: Tensor, actual: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Precision, recall and F1 from counts (any shape): zero where undefined, in float64.

    Args:
        hits: how often a label was predicted and true.
        predicted: how often it was predicted.
        actual: how often it was true.
    """
    # A count of zero in a denominator comes with zero hits, so dividing by one gives the zero.
    precision = hits.double() / predicted.clamp(min=1)
    recall = hits.double() / actual.clamp(min=1)
    return precision, recall, 2 * hits.double() / (predicted + actual).clamp(min=1)


def wilson(hits: float, rows: int) -> list[float]:
    """The 95 % confidence interval [low, high] of a share, from `hits` among `rows` (Wilson 1927)."""
    share, square = hits / rows, Z_95**2
    middle = share + square / (2 * rows)
    half = Z_95 * math.sqrt(share * (1 - share) / rows + square / (4 * rows**2))
    low, high = ((middle + side) / (1 + square / rows) for side in (-half, half))
    return [max(0.0, low) if hits else 0.0, min(1.0, high) if hits < rows else 1.0]


def per_label(
    names: Sequence[str], precision: Tensor, recall: Tensor, f1: Tensor, rows: Tensor
) -> dict[str, dict[str, Any]]:
    """Each label's figures, (K,) each, as plain numbers by the label's name; None for those of a label without rows."""
    columns = zip(names, precision.tolist(), recall.tolist(), f1.tolist(), rows.tolist(), strict=True)
    none = {"precision": None, "recall": None, "f1": None}
    return {
        name: {**({"precision": p, "recall": r, "f1": f} if n else none), "rows": n} for name, p, r, f, n in columns
    }


def macro_ranking(which: Literal["auroc", "average_precision"], scores: Tensor, positive: Tensor) -> float | None:
    """The mean over labels of how well their scores rank the rows.

    Labels for which it is undefined are left out (no positive row; for AUROC also no negative one); None if all are.
    Not torchmetrics', which takes the sigmoid of what is no probability, and so makes ties of rows that differ.

    Args:
        which: the area under the ROC curve, or the average precision.
        scores: (N, K); only their order within a column matters.
        positive: (N, K) bool.
    """
    counts = positive.sum(0)
    defined = (counts > 0) & (counts < len(positive)) if which == "auroc" else counts > 0
    metric = _auroc if which == "auroc" else _average_precision
    columns = [metric(scores[:, k], positive[:, k]) for k in defined.nonzero().flatten().tolist()]
    return sum(columns) / len(columns) if columns else None


def _auroc(scores: Tensor, positive: Tensor) -> float:
    """The share of the pairs of a positive and another row in which the positive one scores higher; ties count half."""
    count = positive.sum().item()
    wins = ranks(scores)[positive].sum().item() - count * (count + 1) / 2
    return float(wins / (count * (len(positive) - count)))


def _average_precision(scores: Tensor, positive: Tensor) -> float:
    """The precision at each distinct score, weighted by the recall that is gained there."""
    _, number = torch.unique(scores, return_inverse=True)
    rows, hits = torch.bincount(number).flip(0), torch.bincount(number, positive.double()).flip(0)
    precision = hits.cumsum(0) / rows.cumsum(0)
    return float((precision * hits).sum() / hits.sum())


def ranks(column: Tensor) -> Tensor:
    """The ranks of (N,) values from 1 on, float64; equal values share the mean of theirs."""
    _, number, counts = torch.unique(column, return_inverse=True, return_counts=True)
    mean_rank: Tensor = counts.cumsum(0) - (counts.double() - 1) / 2
    return mean_rank[number]
