"""Metrics of decisions: of the most probable class, or of the labels whose probability is above a threshold.

Axes: N rows, K classes or labels.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Gt, Lt
from torch import Tensor

from mmreg import Metric, Space

Average = Literal["macro", "micro", "weighted"]
Threshold = Annotated[float, Gt(0), Lt(1)]


def finite(value: Tensor) -> float:
    """A metric as a plain number; 0 where it is undefined."""
    number = float(value)
    return number if math.isfinite(number) else 0.0


class _Counted(Metric):
    """A metric of how often each class or label was predicted and true, averaged over them.

    Macro averages of classes are over those that occur, in truth or prediction; of labels, over all. What is
    undefined counts as 0. These are scikit-learn's with `zero_division=0`.
    """

    spaces: ClassVar[frozenset[Space]] = frozenset({"log_probabilities", "log_odds"})
    function: ClassVar[str]

    def __init__(self, num_outputs: int, average: Average, threshold: float, **options: Any) -> None:
        self._num_outputs = num_outputs
        self._threshold = threshold
        self._options = {"average": average, "validate_args": False, **options}

    def compute(self, scores: Tensor, targets: Tensor) -> float:
        """See `Metric`; by torchmetrics."""
        from torchmetrics.functional import classification

        if targets.ndim == 1:
            of_classes = getattr(classification, f"multiclass_{self.function}")
            return finite(of_classes(scores.argmax(1), targets, num_classes=self._num_outputs, **self._options))
        of_labels = getattr(classification, f"multilabel_{self.function}")
        options = {"num_labels": self._num_outputs, "threshold": self._threshold, **self._options}
        return finite(of_labels(scores.double().sigmoid(), targets.long(), **options))


class FBeta(_Counted):
    """The weighted harmonic mean of precision and recall.

    Args:
        beta: how many times as much recall counts.
        average: the mean over classes or labels ("macro"), that weighted by their rows ("weighted"), or of all counts
            together ("micro").
        threshold: of labels: the probability above which one is predicted.
    """

    function = "fbeta_score"

    def __init__(
        self,
        *,
        num_outputs: int,
        beta: Annotated[float, Gt(0)] = 2.0,
        average: Average = "macro",
        threshold: Threshold = 0.5,
    ) -> None:
        super().__init__(num_outputs, average, threshold, beta=beta)


class Specificity(_Counted):
    """The share of the rows without a class or label for which it is not predicted either.

    Args:
        average: the mean over classes or labels ("macro"), that weighted by their rows ("weighted"), or of all counts
            together ("micro").
        threshold: of labels: the probability above which one is predicted.
    """

    function = "specificity"

    def __init__(self, *, num_outputs: int, average: Average = "macro", threshold: Threshold = 0.5) -> None:
        super().__init__(num_outputs, average, threshold)


class Jaccard(_Counted):
    """Of the rows for which a class or label is predicted or true, the share for which it is both.

    Args:
        average: the mean over classes or labels ("macro"), that weighted by their rows ("weighted"), or of all counts
            together ("micro").
        threshold: of labels: the probability above which one is predicted.
    """

    function = "jaccard_index"

    def __init__(self, *, num_outputs: int, average: Average = "macro", threshold: Threshold = 0.5) -> None:
        super().__init__(num_outputs, average, threshold)


class WeightedKappa(Metric):
    """Cohen's kappa for classes that have an order: a far miss counts more than a near one (Cohen 1968).

    The order is that of the labels, which is ascending; 0 where all is one class.

    Args:
        weights: whether a miss counts by its distance, or by the square of it.
    """

    spaces: ClassVar[frozenset[Space]] = frozenset({"log_probabilities"})

    def __init__(self, *, num_outputs: int, weights: Literal["linear", "quadratic"] = "quadratic") -> None:
        self._num_outputs = num_outputs
        self._weights: Literal["linear", "quadratic"] = weights

    def compute(self, scores: Tensor, targets: Tensor) -> float:
        """See `Metric`; by torchmetrics."""
        from torchmetrics.functional.classification import multiclass_cohen_kappa

        return finite(multiclass_cohen_kappa(scores.argmax(1), targets, self._num_outputs, self._weights))
