"""The task of saying which of several independent labels a row has.

Axes: B batch, N rows, K labels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from annotated_types import Ge, Gt, Lt
from numpy.typing import NDArray
from torch import Tensor, nn

from mmreg import Concern, Space, TargetValues, Task
from mmreg.errors import OptionError, TargetError
from mmreg.layers import at_least_float32
from mmreg.messages import plural
from mmreg_tasks import multilabel_metrics
from mmreg_tasks.concerns import alike, too_few
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
from mmreg_tasks.metrics import check_evaluation

MOST_LABELS = 50_000
"""Each is a column of every matrix of targets and of scores."""
_REMEDY = "leave these rows out, or give a row without labels an empty list or, in a text file, the separator alone"


class Multilabel(Task):
    """Any number of K labels a row, each independent of the others; the loss is the mean of K binary cross entropies.

    A cell is a list of labels, text with the labels between separators (blanks around them do not count), or a
    single label. An empty list, empty text or the separator alone is a row without labels; a null is an error (an
    empty cell of a CSV file is one). The labels are in ascending order.

    Args:
        separator: What stands between the labels of a text cell; null if a text cell is a single label.
        threshold: The probability above which a label is predicted.
        class_weights: How much rows with a label count against rows without it, in that label's part of the loss:
            "balanced" to let both count alike (each side's weight is rows / (2 * its rows)), or a weight by label
            for the rows that have it (1 for those not named).
        label_smoothing: The share of each label's target that is spread evenly over having it and not having it.

    Raises:
        OptionError: an empty separator, or a weight that is negative or not finite.

    Example:
        >>> task = Multilabel()
        >>> task.fit(["sea, sun", "sun", ""])
        >>> task.encode([["sun"], []])
        array([[0., 1.],
               [0., 0.]], dtype=float32)
    """

    space: ClassVar[Space] = "log_odds"
    main_metric: ClassVar[str] = "f1_micro"
    metrics: ClassVar[Mapping[str, bool]] = multilabel_metrics.METRICS

    def __init__(
        self,
        *,
        separator: str | None = ",",
        threshold: Annotated[float, Gt(0), Lt(1)] = 0.5,
        class_weights: Literal["balanced"] | dict[Any, float] | None = None,
        label_smoothing: Annotated[float, Ge(0), Lt(1)] = 0.0,
    ) -> None:
        if separator == "":
            raise OptionError("separator is empty text; give what stands between labels, or null for one label a cell")
        check_class_weights(class_weights)
        self.separator = separator
        self.threshold = threshold
        self.class_weights = class_weights
        self.label_smoothing = label_smoothing
        self._set(Labels(), None, joined=False)

    def _set(self, labels: Labels, weights: NDArray[np.float64] | None, *, joined: bool) -> None:
        check_count(labels, MOST_LABELS)
        self._labels = labels
        self._weights = weights  # (2, K): of rows without and with the label
        self._joined = joined
        self._weights_on: dict[tuple[torch.device, torch.dtype], Tensor] = {}
        self.num_outputs = len(labels)

    @property
    def labels(self) -> tuple[Label, ...]:
        """The K labels, in the order of the scores' columns."""
        return self._labels.values

    def fit(self, values: Sequence[Any]) -> None:
        """Learn the labels and their weights.

        Raises:
            TargetError: a cell or a label in it is missing, labels are of several kinds, or no row has any.
            OptionError: `class_weights` names a label that no row has.
        """
        self._learn(values, np.ones(len(values), np.int64))

    def fit_column(self, values: TargetValues) -> None:
        """As `fit`, looking at each distinct cell once."""
        distinct, _, rows = counted(values)
        self._learn(distinct, rows)

    def _learn(self, values: Sequence[Any], rows: NDArray[np.int64]) -> None:
        """Learn from cells that so many rows have."""
        values = plain(values)
        cells = self._cells(values, rows)
        labels = Labels.of(chain.from_iterable(cells), _labels_rows(cells, rows).tolist())
        check_count(labels, MOST_LABELS)  # before a matrix of rows and labels is made
        count = int(rows.sum())
        if not labels:
            raise TargetError(f"none of the {plural(count, 'row')} of the target column has a label")
        weights = None
        if self.class_weights == "balanced":
            having = rows.astype(np.float64) @ _many_hot(cells, labels)
            counts = np.stack([count - having, having])
            weights = np.divide(count / 2, counts, out=np.ones_like(counts), where=counts > 0)
        elif isinstance(self.class_weights, Mapping):
            weights = np.stack([np.ones(len(labels)), labels.weights(self.class_weights)])
        self._set(labels, weights, joined=self.separator is not None and any(isinstance(v, str) for v in values))

    def encode(self, values: Sequence[Any]) -> NDArray[np.float32]:
        """Which row has which label, (N, K) float32 of 0 and 1.

        Raises:
            TargetError: a cell or a label in it is missing, or a label was never seen in training.
        """
        rows = np.ones(len(values), np.int64)
        return _many_hot(self._cells(plain(values), rows), self._labels, rows)

    def encode_column(self, values: TargetValues) -> NDArray[np.float32]:
        """As `encode`, looking at each distinct cell once."""
        distinct, codes, rows = counted(values)
        return _many_hot(self._cells(plain(distinct), rows), self._labels, rows)[codes]

    def _cells(self, values: list[Any], rows: NDArray[np.int64]) -> list[list[Any]]:
        """The labels of cells that so many rows have."""
        lacking = [is_missing(value) and not isinstance(value, str) for value in values]
        count = int(rows.sum())
        require_labels(int(rows[np.array(lacking, bool)].sum()), count, _REMEDY)
        cells = [self._cell(value) for value in values]
        empty = int(rows[np.array([any(map(is_missing, cell)) for cell in cells], bool)].sum())
        if empty:
            raise TargetError(
                f"the labels of {empty} of {plural(count, 'row')} hold a null, a NaN or blank text; {_REMEDY}"
            )
        return cells

    def _cell(self, value: Any) -> list[Any]:
        if isinstance(value, str):
            parts = [value] if self.separator is None else value.split(self.separator)
            return [part.strip() for part in parts if part.strip()]
        if isinstance(value, list | tuple | set | frozenset | np.ndarray):
            return plain(value)
        return [value]

    def concerns(self, targets: Mapping[str, NDArray[Any]]) -> list[Concern]:
        """Labels that are hardly different, and those that too few rows have."""
        counts = {split: rows.sum(0).astype(np.int64) for split, rows in targets.items()}
        return [*alike(self.labels), *too_few("label", self.labels, counts)]

    def row_weights(self, targets: NDArray[Any]) -> NDArray[np.float32]:
        """1 for each row, (N,): class weights act within the loss, label by label."""
        return np.ones(len(targets), np.float32)

    def loss(self, scores: Tensor, targets: Tensor) -> Tensor:
        """The mean of the labels' binary cross entropies, (B,), of log-odds with 0/1 labels, both (B, K)."""
        scores = at_least_float32(scores)
        targets = targets.to(scores.dtype)
        weights = None
        if self._weights is not None:
            without, having = self._weights_like(scores)
            weights = torch.lerp(without.expand_as(targets), having.expand_as(targets), targets)
        targets = targets * (1 - self.label_smoothing) + self.label_smoothing / 2
        return nn.functional.binary_cross_entropy_with_logits(scores, targets, weights, reduction="none").mean(1)

    def _weights_like(self, scores: Tensor) -> Tensor:
        key = (scores.device, scores.dtype)
        if key not in self._weights_on:
            # Kept, as a copy to the device in every step would wait for it.
            self._weights_on[key] = torch.tensor(self._weights, dtype=scores.dtype, device=scores.device)
        return self._weights_on[key]

    def scores(self, logits: Tensor) -> Tensor:
        """The log-odds, (B, K): the logits as they are."""
        return at_least_float32(logits)

    def prior(self, targets: NDArray[Any], weights: NDArray[np.float32]) -> Tensor:
        """The log-odds, (K,), of each label's share of the rows, in the weights of rows and labels."""
        having = weights.astype(np.float64) @ targets
        totals = np.stack([weights.sum(dtype=np.float64) - having, having])
        if self._weights is not None:
            totals *= self._weights
        both = totals.sum(0)
        share = np.divide(totals[1], both, out=np.full_like(both, 0.5), where=both > 0)
        share = share.clip(PRIOR_FLOOR, 1 - PRIOR_FLOOR)
        return torch.from_numpy(np.log(share) - np.log1p(-share)).float()

    def evaluate(self, scores: Tensor, targets: Tensor, metrics: Sequence[str] = ()) -> dict[str, Any]:
        """Metrics of N rows.

        Always precision, recall and f1, each as "_micro" and "_macro", subset_accuracy, hamming_loss, "per_label"
        by the label's text (None for figures of a label without rows), and "labels"; further ones by name, as `metrics`
        lists them.

        Args:
            scores: (N, K) log-odds.
            targets: (N, K) of 0 and 1.
            metrics: names of further ones.

        Raises:
            OptionError: a metric that is not known.
            TargetError: there are no rows.
        """
        check_evaluation(len(targets), metrics, self.metrics)
        scores, actual = scores.detach().cpu(), targets.cpu() > 0.5
        result = multilabel_metrics.summary(self._predict(scores), actual, self.labels, self._labels.names)
        return result | multilabel_metrics.further(metrics, scores, actual)

    def _predict(self, scores: Tensor) -> Tensor:
        return scores > math.log(self.threshold / (1 - self.threshold))

    def predictions(self, scores: Tensor) -> dict[str, list[Any]]:
        """Each row's labels (a list, or text if the training cells were), and each label's "probability_LABEL"."""
        scores = scores.detach().cpu()
        predicted = self._predict(scores)
        names = [self.labels[k] for k in predicted.nonzero()[:, 1].tolist()]
        ends = predicted.sum(1).cumsum(0).tolist()
        found: list[Any] = [names[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)]
        if self._joined and self.separator is not None:
            found = [self.separator.join(row) for row in found]
        probabilities = scores.double().sigmoid()
        columns = {f"probability_{name}": probabilities[:, k].tolist() for k, name in enumerate(self._labels.names)}
        return {"labels": found, **columns}

    def headline(self, result: Mapping[str, Any], rows: int) -> str:
        """The micro F1."""
        return f"F1: {result['f1_micro']:.2f} (micro, {plural(rows, 'row')})"

    def state(self) -> dict[str, Any]:
        """The labels, in their own types, their weights, and whether cells are text."""
        weights = None if self._weights is None else self._weights.tolist()
        return {"labels": list(self.labels), "weights": weights, "joined": self._joined}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take over what `state` gave."""
        weights = None if state["weights"] is None else np.asarray(state["weights"], np.float64)
        self._set(Labels(tuple(state["labels"])), weights, joined=state["joined"])


def _many_hot(
    cells: Sequence[Sequence[Any]], labels: Labels, rows: NDArray[np.int64] | None = None
) -> NDArray[np.float32]:
    """Which cell has which label, (N, K); `rows` says for messages how many rows have each cell."""
    encoded = np.zeros((len(cells), len(labels)), np.float32)
    at = np.repeat(np.arange(len(cells)), [len(cell) for cell in cells])
    counts = None if rows is None else _labels_rows(cells, rows)
    encoded[at, labels.encode(list(chain.from_iterable(cells)), counts)] = 1
    return encoded


def _labels_rows(cells: Sequence[Sequence[Any]], rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """For each label of each cell, how many rows have the cell."""
    return np.repeat(rows, np.fromiter(map(len, cells), np.int64, len(cells)))
