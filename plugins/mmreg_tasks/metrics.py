"""What the tasks' metrics share: names, precision and recall from counts, and rankings label by label.

Axes: N rows, K classes or labels.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from torch import Tensor

from mmreg.errors import OptionError, TargetError
from mmreg.messages import near


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


def per_label(
    names: Sequence[str], precision: Tensor, recall: Tensor, f1: Tensor, rows: Tensor
) -> dict[str, dict[str, Any]]:
    """Each label's figures, (K,) each, as plain numbers by the label's name."""
    columns = zip(names, precision.tolist(), recall.tolist(), f1.tolist(), rows.tolist(), strict=True)
    return {name: {"precision": p, "recall": r, "f1": f, "rows": n} for name, p, r, f, n in columns}


def macro_ranking(which: Literal["auroc", "average_precision"], probabilities: Tensor, positive: Tensor) -> float:
    """The mean over labels of how well their probabilities rank the rows.

    Labels for which it is undefined are left out (no positive row; for AUROC also no negative one); 0 if all are.

    Args:
        which: the area under the ROC curve, or the average precision.
        probabilities: (N, K).
        positive: (N, K) bool.
    """
    from torchmetrics.functional.classification import binary_auroc, binary_average_precision

    metric = binary_auroc if which == "auroc" else binary_average_precision
    counts = positive.sum(0)
    defined = (counts > 0) & (counts < len(positive)) if which == "auroc" else counts > 0
    labels = defined.nonzero().flatten().tolist()
    found = [metric(probabilities[:, k], positive[:, k].long(), validate_args=False).item() for k in labels]
    return sum(found) / len(found) if found else 0.0


def defined_or_zero(value: Tensor) -> float:
    """A metric as a plain number: zero where it is undefined (NaN)."""
    number = value.item()
    return 0.0 if math.isnan(number) else float(number)
