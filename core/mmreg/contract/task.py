"""The interfaces of what is to be predicted, and of how good predictions are.

Axes: B batch, N rows, K classes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mmreg.contract.lifecycle import Restorable
from mmreg.contract.target_values import TargetValues

Space = Literal["log_probabilities", "log_odds", "values", "quantiles", "log_hazards", "vectors", "several"]
"""What a task's scores (B, K) are: log-probabilities over K exclusive classes (each row's exponentials sum to one),
the log-odds of K independent labels, K plain numbers, K ascending quantiles of one number, or (K = 1) the logarithm
of a hazard, how likely a row's event is at any time, of which differences between rows alone mean something; or a unit
vector of each input side by side, zeros for one that the row lacks; or, side by side, those of several targets, each in
a space of its own (`Task.targets` tells them apart)."""


@dataclass(frozen=True)
class Concern:
    """Something about a table's targets that a person should know before a training.

    Attributes:
        text: what it is, and what to do about it, in one line.
        options: options of the task that help; `mmreg init` sets them.
        metric: what tells more than the main metric then; `mmreg init` chooses the weights by it.
    """

    text: str
    options: Mapping[str, Any] = field(default_factory=dict)
    metric: str | None = None


class OneTarget:
    """One of the targets that a task predicts: here the only one, which is all of the task.

    Args:
        task: the target's own.
    """

    def __init__(self, task: Task) -> None:
        self.task = task

    def scores(self, scores: Tensor) -> Tensor:
        """Its own ones (..., k) of the scores (..., K)."""
        return scores

    def has(self, targets: Tensor) -> Tensor:
        """Which rows have it, (N,) bool, of encoded targets."""
        return torch.ones(len(targets), dtype=torch.bool, device=targets.device)

    def own(self, targets: Tensor) -> Tensor:
        """Its own encoded targets, of those of N rows that have it."""
        return targets

    def known(self, scores: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Its own scores and encoded targets, of those of N rows that have it."""
        return scores, targets


class Task(Restorable, ABC):
    """What is to be predicted: it owns the target column, the loss, the metrics and how predictions are written.

    Its constructor takes options only. `fit` learns the labels from the training rows; the state is JSON.

    A task without a target learns from what the inputs of a row have in common. Its constructor also takes `inputs`,
    their names in order (none while only its options are tried); `fit` and `encode` get None for each row, of which
    `encode` makes (N, 0); and in the place of fusion and the layer that makes logits stands its `head`.

    Attributes:
        passed_in: keyword-only parameters that are no options, as the framework passes them in.
        space: what its scores are.
        needs_target: whether there is a target column.
        num_outputs: K, the size of a row's scores. Set by `fit` and `load_state`.
        module: parameters of its own that `scores` and `loss` use, such as the cut points of an ordinal scale: trained,
            moved and saved with the model; made anew by `fit`, or of the right size by `load_state`.
        main_metric: the metric by which models are compared unless the recipe names another.
        metrics: every metric it knows by name, each with whether more is better.
        columns: what it reads of each row, by name, where that takes several columns: a recipe gives the `columns` of
            the table by these names, and a target value is a dict; none for a task that reads one column.
        compares_rows: whether a row's loss depends on the other rows of its batch; see `loss_among`.
    """

    passed_in: ClassVar[frozenset[str]] = frozenset({"inputs", "restored"})
    space: ClassVar[Space]
    needs_target: ClassVar[bool] = True
    main_metric: ClassVar[str]
    metrics: ClassVar[Mapping[str, bool]]
    columns: ClassVar[tuple[str, ...]] = ()
    compares_rows: ClassVar[bool] = False
    num_outputs: int
    module: nn.Module | None = None

    @property
    def num_logits(self) -> int:
        """The size of what a head gives for a row, which `scores` and `loss` take; K unless the task says otherwise."""
        return self.num_outputs

    def targets(self) -> Mapping[str, OneTarget]:
        """Each target by name; that of a task of a single one is "". For tasks that the framework joins, alone."""
        return {"": OneTarget(self)}

    @property
    def target_tasks(self) -> Mapping[str, Task]:
        """The task of each target, which need not be fitted."""
        return {"": self}

    def weigh(
        self, targets: NDArray[Any], weights: Mapping[str, NDArray[np.float32]], train: NDArray[np.int64]
    ) -> None:
        """Put the weights of rows (N,), for some targets by name, into encoded ones; for several targets alone.

        Args:
            targets: (N, ...) changed in place.
            weights: by what the tasks' own weights are multiplied.
            train: the numbers of the training rows.
        """
        raise AssertionError("the weights of a single target are those of the rows")

    @property
    def heads(self) -> Mapping[str, int]:
        """The sizes of what each target's head gives, in the order of the logits."""
        return {"": self.num_logits}

    def head(self, inputs: Mapping[str, int]) -> nn.Module:
        """Of a task without a target: what makes logits of the inputs' features.

        Args:
            inputs: the size of each input's features by name, in order.

        Returns:
            A module that takes a mapping of each input's features (B, size), of absent rows anything, and (B, M) bool,
            which row has which input; and gives logits (B, num_logits), on which absent inputs have no influence.
        """
        raise NotImplementedError(f"{type(self).__name__} has a target; its head is a linear layer")

    @abstractmethod
    def fit(self, values: Sequence[Any]) -> None:
        """Learn the labels from the training rows' target values and set `num_outputs`.

        Raises:
            TargetError: the values do not fit the task (none, one class, numbers that are not finite, ...).
        """

    @abstractmethod
    def encode(self, values: Sequence[Any]) -> NDArray[Any]:
        """Target values as an array: (N,) int64 classes, (N, K) float32 labels or values.

        For K quantiles of a number that number K times, (N, K) float32; for log-hazards (N, 2) float32, each row's time
        and whether (1 or 0) the event happened then.

        Raises:
            TargetError: a value is missing, not finite, or was never seen in training; all of them are named.
        """

    def fit_column(self, values: TargetValues) -> None:
        """As `fit`, of a table's column; a task that looks at distinct values, or at numbers as an array, is faster.

        Raises:
            TargetError: as for `fit`.
        """
        self.fit(list(values))

    def encode_column(self, values: TargetValues) -> NDArray[Any]:
        """As `encode`, of a table's column; see `fit_column`.

        Raises:
            TargetError: as for `encode`.
        """
        return self.encode(list(values))

    def concerns(self, targets: Mapping[str, NDArray[Any]]) -> list[Concern]:
        """What a person should know about the targets before a training; nothing unless the task says otherwise.

        Args:
            targets: the encoded ones of each split that has rows, "train" first.
        """
        return []

    @abstractmethod
    def row_weights(self, targets: NDArray[Any]) -> NDArray[np.float32]:
        """The weight of each row's loss, (N,), from class weights and the like."""

    @abstractmethod
    def loss(self, scores: Tensor, targets: Tensor) -> Tensor:
        """The loss of each row, (B,), unweighted, of logits (B, num_logits) or of what `scores` made of them."""

    def loss_among(self, scores: Tensor, targets: Tensor, present: Tensor) -> Tensor:
        """The loss of each row, (B,), where only those that are `present`, (B,) bool, have scores.

        Training leaves the others' losses out. A task that compares rows must not compare any with these, so it has
        this method besides; others need `loss` alone.
        """
        return self.loss(scores, targets)

    @abstractmethod
    def scores(self, logits: Tensor) -> Tensor:
        """What a head gives, (B, num_logits), in the task's space, (B, K); what is there already stays as it is."""

    def decide(self, scores: Tensor) -> Tensor:
        """The class that each row is said to be of, (N,) int64, of a task with exclusive classes: the most probable."""
        return scores.argmax(1)

    @abstractmethod
    def prior(self, targets: NDArray[Any], weights: NDArray[np.float32]) -> Tensor:
        """The scores, (K,), of a row that has no modality at all: the training distribution."""

    @property
    def learns_from_scores(self) -> bool:
        """Whether `fit_scores` is called once the model is trained, after a pass over the training rows."""
        return False

    def fit_scores(self, scores: Tensor, targets: Tensor) -> None:
        """Learn what only the finished model tells, such as a baseline hazard, into buffers of `module`.

        The state was saved before, so it must not change, nor may what `scores` and `loss` give. Of runs that are
        combined it is called with rows that none of them learned from, and not at all where there are none.

        Args:
            scores: (N, K) of the training rows that have a modality.
            targets: as the task encodes them, (N, ...).
        """

    @abstractmethod
    def evaluate(self, scores: Tensor, targets: Tensor, metrics: Sequence[str] = ()) -> dict[str, Any]:
        """Metrics of N rows: always the task's own, further ones by name; plain numbers, lists and dicts.

        A metric that is undefined on these rows, as a ranking is where all are of one class, is None.

        Two keys are shown beside the metrics: "intervals", by the name of a metric its 95 % confidence interval [low,
        high]; and "baseline", what one answer for all rows would give: the answer as "prediction", and metrics.

        Raises:
            OptionError: a metric that the task does not know.
        """

    @abstractmethod
    def predictions(self, scores: Tensor) -> dict[str, list[Any]]:
        """N rows as named columns of plain values, in the words of the target column."""

    @abstractmethod
    def headline(self, result: Mapping[str, Any], rows: int) -> str:
        """One line for people, such as "Accuracy: 83% (415/500)"."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """What `fit` learned, as plain JSON data."""

    @abstractmethod
    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take over what `state` gave, instead of fitting."""


class Metric(ABC):
    """One number that says how good the predictions of many rows are, for any task whose scores it understands.

    A subclass's constructor is `__init__(self, *, num_outputs: int, option=default, ...)`; `num_outputs` is K.

    Attributes:
        passed_in: keyword-only parameters that are no options, as the framework passes them in.
        spaces: what the scores may be.
        more_is_better: its direction.
    """

    version: ClassVar[int] = 1
    passed_in: ClassVar[frozenset[str]] = frozenset({"num_outputs"})
    spaces: ClassVar[frozenset[Space]]
    more_is_better: ClassVar[bool] = True

    @abstractmethod
    def compute(self, scores: Tensor, targets: Tensor) -> float:
        """Measure N >= 1 rows, on the CPU.

        Args:
            scores: (N, K) in a task's space.
            targets: as the task encodes them: (N,) int64 classes, (N, K) 0/1 labels, or (N, K) values.

        Returns:
            A finite number, also where the metric is undefined on these rows (0 by custom).
        """
