"""The task of choosing one of several exclusive classes.

Axes: B batch, N rows, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from annotated_types import Ge, Lt
from numpy.typing import NDArray
from torch import Tensor, nn

from mmreg import Concern, Space, TargetValues, Task
from mmreg.errors import OptionError, TargetError
from mmreg.layers import at_least_float32
from mmreg.messages import plural, shown
from mmreg_tasks import classification_metrics
from mmreg_tasks.concerns import alike, dominant, too_few
from mmreg_tasks.labels import (
    PRIOR_FLOOR,
    Label,
    Labels,
    check_class_weights,
    check_count,
    counted,
    is_missing,
    plain,
    require_labels,
)
from mmreg_tasks.metrics import check_evaluation, wilson

_REMEDY = "give every row a label, or leave these rows out"
_FRACTIONAL_LABELS = 20
"""More different fractional numbers than this are taken for quantities, not for classes."""
MOST_CLASSES = 5_000
"""Their confusion matrix takes 0.2 GB as a report's text, and some GB while that is written."""
_FEW_ROWS = 10
"""Up to so many rows, each may have a label of its own (a first trial)."""


class Classification(Task):
    """One of K exclusive classes; the loss is cross entropy.

    A label is text, a number (whole, or one of a few fractional ones), or true or false, all of one kind. The
    classes are in ascending order.

    Args:
        class_weights: How much each class's rows count in the loss: "balanced" for inversely to its frequency
            (rows / (classes * rows of the class)), or a weight by label (1 for those not named).
        label_smoothing: The share of each target that is spread evenly over all classes (Szegedy et al. 2016).

    Raises:
        OptionError: a weight that is negative or not finite.

    Example:
        >>> task = Classification()
        >>> task.fit(["dog", "cat", "dog"])
        >>> task.encode(["cat", "dog"])
        array([0, 1])
    """

    space: ClassVar[Space] = "log_probabilities"
    main_metric: ClassVar[str] = "accuracy"
    metrics: ClassVar[Mapping[str, bool]] = classification_metrics.METRICS

    def __init__(
        self,
        *,
        class_weights: Literal["balanced"] | dict[Any, float] | None = None,
        label_smoothing: Annotated[float, Ge(0), Lt(1)] = 0.0,
    ) -> None:
        check_class_weights(class_weights)
        self.class_weights = class_weights
        self.label_smoothing = label_smoothing
        self._set(Labels(), None)

    def _set(self, labels: Labels, weights: NDArray[np.float64] | None) -> None:
        check_count(labels, MOST_CLASSES)
        self._labels = labels
        self._weights = weights
        self.num_outputs = len(labels)

    @property
    def labels(self) -> tuple[Label, ...]:
        """The K labels, in the order of the scores' columns."""
        return self._labels.values

    def fit(self, values: Sequence[Any]) -> None:
        """Learn the classes and their weights.

        Raises:
            TargetError: a label that is missing or of another kind than the others, a single class, or a column
                that seems to hold quantities or keys.
            OptionError: `class_weights` names a label that no row has, or leaves all rows without weight.
        """
        self._learn(values, np.ones(len(values), np.int64))

    def fit_column(self, values: TargetValues) -> None:
        """As `fit`, looking at each distinct value once."""
        distinct, _, rows = counted(values)
        self._learn(distinct, rows)

    def _learn(self, values: Sequence[Any], rows: NDArray[np.int64]) -> None:
        """Learn from values that so many rows have."""
        values = self._plain(values, rows)
        labels = self._found(Labels.of(values, rows.tolist()), int(rows.sum()))
        weights = None
        if self.class_weights == "balanced":
            counts = np.bincount(labels.encode(values), rows, minlength=len(labels))
            weights = rows.sum() / (len(labels) * np.maximum(counts, 1))
        elif isinstance(self.class_weights, Mapping):
            weights = labels.weights(self.class_weights)
            if not weights.any():
                raise OptionError("class_weights gives every class the weight 0; at least one must be greater")
        self._set(labels, weights)

    def _found(self, labels: Labels, rows: int) -> Labels:
        """The classes, in their order, where these labels were found in so many rows."""
        _refuse_what_are_no_classes(labels, rows)
        return labels

    def encode(self, values: Sequence[Any]) -> NDArray[np.int64]:
        """The number of each value's class, (N,) int64.

        Raises:
            TargetError: a label that is missing or was never seen in training.
        """
        return self._labels.encode(self._plain(values, np.ones(len(values), np.int64)))

    def encode_column(self, values: TargetValues) -> NDArray[np.int64]:
        """As `encode`, looking at each distinct value once."""
        distinct, codes, rows = counted(values)
        return self._labels.encode(self._plain(distinct, rows), rows)[codes]

    @staticmethod
    def _plain(values: Sequence[Any], rows: NDArray[np.int64]) -> list[Any]:
        values = plain(values)
        if any(isinstance(value, list | tuple | set | np.ndarray) for value in values):
            raise TargetError(
                "a row of the target column holds a list, but classification needs one label a row; "
                "use task: multilabel for any number of labels a row, or task: regression for several numbers"
            )
        missing = np.fromiter(map(is_missing, values), bool, len(values))
        require_labels(int(rows[missing].sum()), int(rows.sum()), _REMEDY)
        return values

    def concerns(self, targets: Mapping[str, NDArray[Any]]) -> list[Concern]:
        """Labels that are hardly different, a class that nearly all rows have, and classes with too few rows."""
        counts = {split: np.bincount(rows, minlength=self.num_outputs) for split, rows in targets.items()}
        found = [*alike(self.labels), *dominant(self.labels, counts["train"], self.class_weights is not None)]
        return [*found, *too_few("class", self.labels, counts)]

    def row_weights(self, targets: NDArray[Any]) -> NDArray[np.float32]:
        """The weight of each row's class, (N,); 1 without class weights."""
        if self._weights is None:
            return np.ones(len(targets), np.float32)
        weights: NDArray[np.float32] = self._weights.astype(np.float32)[targets]
        return weights

    def loss(self, scores: Tensor, targets: Tensor) -> Tensor:
        """Cross entropy, (B,), of logits or log-probabilities (B, K) with classes (B,)."""
        return nn.functional.cross_entropy(
            at_least_float32(scores), targets, reduction="none", label_smoothing=self.label_smoothing
        )

    def scores(self, logits: Tensor) -> Tensor:
        """Log-probabilities, (B, K)."""
        return at_least_float32(logits).log_softmax(-1)

    def prior(self, targets: NDArray[Any], weights: NDArray[np.float32]) -> Tensor:
        """The logarithm of each class's share of the rows' weights, (K,); a class without rows has next to none."""
        totals = np.bincount(targets, weights, minlength=self.num_outputs)
        shares = totals / totals.sum() if totals.any() else np.full(self.num_outputs, 1 / self.num_outputs)
        return self.scores(torch.from_numpy(np.log(np.maximum(shares, PRIOR_FLOOR)))).float()

    def evaluate(self, scores: Tensor, targets: Tensor, metrics: Sequence[str] = ()) -> dict[str, Any]:
        """Metrics of N rows.

        Always accuracy, precision, recall, f1 (macro averages over the classes that occur, in truth or prediction,
        undefined ones as 0), "per_class" by the label's text (None for figures of a class without rows), "confusion"
        (rows are truth) and "labels"; accuracy's interval (Wilson 1927), and as "baseline" what always saying the most
        frequent class of these rows would give, which no single answer exceeds; further ones by name, as `metrics`
        lists them.

        Args:
            scores: (N, K) log-probabilities.
            targets: (N,) int64.
            metrics: names of further ones.

        Raises:
            OptionError: a metric that is not known.
            TargetError: there are no rows.
        """
        check_evaluation(len(targets), metrics, self.metrics)
        scores, targets = scores.detach().cpu(), targets.cpu()
        confusion = classification_metrics.confusion_matrix(self.decide(scores), targets, self.num_outputs)
        result = classification_metrics.summary(confusion, self.labels, self._labels.names)
        return result | classification_metrics.further(metrics, scores, targets)

    def predictions(self, scores: Tensor) -> dict[str, list[Any]]:
        """The label that is told, its probability, and every class's as "probability_LABEL"."""
        probabilities = scores.detach().cpu().double().exp()
        classes = self.decide(scores).cpu()
        return {
            "label": [self.labels[k] for k in classes.tolist()],
            "probability": probabilities.gather(1, classes[:, None])[:, 0].tolist(),
            **{f"probability_{name}": probabilities[:, k].tolist() for k, name in enumerate(self._labels.names)},
        }

    def headline(self, result: Mapping[str, Any], rows: int) -> str:
        """The accuracy in whole per cent, the counts behind it, its 95 % interval, and the baseline's accuracy."""
        right, baseline = round(result["accuracy"] * rows), result.get("baseline")
        low, high = wilson(right, rows)
        text = f"Accuracy: {right / rows:.0%} ({right}/{rows}), 95% interval {100 * low:.0f} to {high:.0%}"
        if baseline is None:
            return text
        return f"{text}; always saying {shown(baseline['prediction'])}: {baseline['accuracy']:.0%}"

    def state(self) -> dict[str, Any]:
        """The labels, in their own types, and the weight of each class."""
        return {"labels": list(self.labels), "weights": None if self._weights is None else self._weights.tolist()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take over what `state` gave."""
        weights = state["weights"]
        self._set(Labels(tuple(state["labels"])), None if weights is None else np.asarray(weights, np.float64))


def _refuse_what_are_no_classes(labels: Labels, rows: int) -> None:
    count = len(labels)
    if count == 1:
        told = plural(rows, "row of the target column has", "rows of the target column have")
        raise TargetError(
            f"{'all ' if rows > 1 else ''}{told} the label {labels.values[0]!r}; "
            "classification needs at least two classes"
        )
    own = count == rows
    fractional = labels.numeric and any(float(label) % 1 for label in labels.values)
    if labels.numeric and ((own and (fractional or rows > _FEW_ROWS)) or (fractional and count > _FRACTIONAL_LABELS)):
        raise TargetError(
            f"the target column holds {count} different numbers in {rows} rows, which look like quantities, "
            "not classes; use task: regression"
        )
    if own and rows > _FEW_ROWS:
        raise TargetError(
            f"each of the {rows} rows of the target column has a label of its own ({labels.describe()}); "
            "choose a column whose labels repeat"
        )
