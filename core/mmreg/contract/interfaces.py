"""The interfaces that make up a model: modality, encoder, the two levels of fusion, task, and metric.

Axes: B batch, C channels, H W height and width, T time or tokens, D features, K classes, M modalities.

A component's options are the keyword-only parameters of its constructor: their types, bounds (`Annotated[int, Ge(1)]`),
defaults and the docstring's `Args:` are all there is to declare. Parameters of other kinds are what the framework
passes in (an encoder's `spec`, a fusion's `inputs`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mmreg.contract.lifecycle import Restorable
from mmreg.contract.signals import Features, Fused, Signal
from mmreg.contract.spec import Spec, Specs

Outputs = Literal["pooled", "tokens"]
"""What a fusion takes of an encoder: one vector a row, or a sequence of them."""

Space = Literal["log_probabilities", "log_odds", "values"]
"""What a task's scores (B, K) are: log-probabilities over K exclusive classes (each row's exponentials sum to one),
the log-odds of K independent labels, or K plain numbers."""


class Modality(Restorable, ABC):
    """How one column's values become numbers: `load` once per value (cached), `transform` once per batch.

    The calls come in this order: `fit_values`, `load` for every row, `fit_arrays`, then `transform` for ever. What
    the two fits learned is the state; a modality built with the same options and given that state behaves the same.
    `stored` and `spec` are asked for after `fit_values` or `load_state`, never before.

    What is stored is one array a value, or several by name: `load` then gives a dict of arrays, `stored` is a mapping
    of their specs, and a signal's `values` are a dict of tensors. Those of them whose first axis is ragged are all of
    the same length. `transform` may make one tensor of them, or give several.

    Attributes:
        version: raised by the author whenever `load` would store something else for the same value and options.
        paths: whether a text cell is the path of a file, to be resolved against the table's folder and watched.
        multiple_columns: whether `load` takes a dict of several columns' values instead of one value.
        transform_options: names of the options that only `transform` (or `fit_arrays`) reads: changing one of them
            loads nothing again.
        extensions: the file endings (such as ".png") by which `mmreg init` recognises the modality's columns.
        default_encoder: the encoder that a recipe gets which names none; None if it has to name one.
        columns: of a modality of `multiple_columns`, their names in the recipe's order; set by the framework after
            the constructor, before anything else is called.
    """

    version: ClassVar[int] = 1
    paths: ClassVar[bool] = False
    multiple_columns: ClassVar[bool] = False
    transform_options: ClassVar[frozenset[str]] = frozenset()
    extensions: ClassVar[frozenset[str]] = frozenset()
    default_encoder: ClassVar[str | None] = None
    columns: tuple[str, ...] = ()

    @classmethod
    def suggest(cls, values: Sequence[Any]) -> Mapping[str, tuple[Any, str]] | None:
        """Options for a column that holds these values, each with the reason in a few words, for `mmreg init`.

        Args:
            values: a sample of a column's values that are there, as `load` takes them.

        Returns:
            Options that should differ from the defaults, or None if the values are not of this modality. As it
            stands: no options where most values are files with one of the `extensions`.
        """
        files = [value for value in values if isinstance(value, Path) and value.suffix.lower() in cls.extensions]
        return {} if values and len(files) >= 0.8 * len(values) else None

    @classmethod
    def suggest_columns(
        cls, columns: Mapping[str, Sequence[Any]]
    ) -> tuple[Sequence[str], Mapping[str, tuple[Any, str]]] | None:
        """The columns that a modality of `multiple_columns` would take together, for `mmreg init`.

        Args:
            columns: for each column that no modality of one column takes, a sample of its values that are there, as
                `load` takes them.

        Returns:
            The names of columns, and options as `suggest` gives them; None if none of them are of this modality.
        """
        return None

    def fit_values(self, values: Iterator[Any]) -> None:
        """Learn from the training rows' raw values, such as a vocabulary; absent ones are left out.

        Afterwards `spec` and `stored` are final. The values are those that `load` takes.
        """

    @abstractmethod
    def load(self, value: Any) -> NDArray[Any] | Mapping[str, NDArray[Any]]:
        """Turn one raw value into the array to store, or the named arrays, which `stored` describes.

        Args:
            value: a `pathlib.Path` (if `paths`), text, bytes, a NumPy array or a dict, as the table gives it.

        Returns:
            An array with the dtype and shape of `stored`, or by name one for each of its specs.

        Raises:
            ValueLoadError: the value cannot be loaded; the message says why and names no table or row.
        """

    def fit_arrays(self, arrays: Iterator[Any]) -> None:
        """Learn from the training rows' stored values, one at a time, such as a mean and a deviation.

        Args:
            arrays: what `load` gave: an array for each row, or a dict of them.
        """

    def transform(
        self, signal: Signal[Any], *, training: bool, generator: torch.Generator | None = None
    ) -> Signal[Any]:
        """Turn a batch of stored arrays into what `spec` promises, on the batch's device, in torch operations only.

        Args:
            signal: values (B, *stored.shape) in the stored dtype, or a dict of them; ragged ones padded with zeros at
                the end.
            training: whether to augment.
            generator: where every random draw comes from, on the signal's device; given whenever `training` is set.
        """
        return signal

    @property
    @abstractmethod
    def stored(self) -> Specs:
        """What `load` gives. Only a first axis may be ragged. A dtype is also a NumPy dtype's name."""

    @property
    @abstractmethod
    def spec(self) -> Specs:
        """What `transform` gives."""

    def state(self) -> dict[str, Any]:
        """All that was fitted, as plain JSON data."""
        return {}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take over what `state` gave, instead of fitting."""

    def load_state_key(self) -> Any:
        """The part of the state that `load` reads, as plain JSON data; it is part of the cache's key."""
        return self.state()


class Encoder(nn.Module, Restorable, ABC):
    """From one modality's signal to features.

    A subclass's constructor is `__init__(self, spec: Spec, *, option=default, ...)`. One that can give tokens lists
    "tokens" in `provides` and takes the further keyword `outputs`, a member of `Outputs`: which of the two it will be
    asked for. It computes, and owns parameters for, that one alone.

    Attributes:
        provides: what it can give.
        passed_in: keyword-only parameters that are no options, as the framework passes them in.
        multiple_arrays: whether it takes modalities that give several named tensors: the spec, in `accepts` and in the
            constructor, is then a mapping of their specs, and a signal's `values` are a dict. Others are never asked
            about such a modality.
        out_features: D, the size of what it gives (of each token, if asked for tokens). Set by the constructor.
    """

    passed_in: ClassVar[frozenset[str]] = frozenset({"outputs", "restored"})
    provides: ClassVar[frozenset[Outputs]] = frozenset({"pooled"})
    multiple_arrays: ClassVar[bool] = False
    out_features: int

    @classmethod
    def accepts(cls, spec: Spec, options: Mapping[str, Any]) -> str | None:
        """Whether it takes this spec with these (complete) options: None, or the reason why not.

        A reason reads on after "encoder NAME does not take SPEC: ", and says what would fit.
        """
        return None

    @classmethod
    def modality_options(cls, options: Mapping[str, Any]) -> Mapping[str, Any]:
        """Options that it needs of its modality (a size, a normalisation); they become that modality's defaults."""
        return {}

    @abstractmethod
    def forward(self, signal: Signal[Any]) -> Features:
        """Encode a batch of B >= 1 rows, all present. No row's result depends on the others' padding."""


class FeatureFusion(nn.Module, Restorable, ABC):
    """F = [f1, ..., fn]: named features to the features of the fused row.

    A subclass's constructor is `__init__(self, inputs: Mapping[str, int], *, option=default, ...)`, where `inputs`
    gives each modality's name and feature size D, in the recipe's order.

    Attributes:
        takes: "pooled", or "tokens" (then an encoder without tokens gives `pooled` alone: one token).
        min_inputs: the least number of modalities.
        max_inputs: the greatest number of modalities; None for any.
        ordered: whether the order of the modalities has a meaning. If not, a permutation of them (and of the
            parameters that belong to each) leaves the result as it is, up to a permutation of the features.
        out_features: the size of the fused vector. Set by the constructor.
    """

    takes: ClassVar[Outputs] = "pooled"
    min_inputs: ClassVar[int] = 1
    max_inputs: ClassVar[int | None] = None
    ordered: ClassVar[bool] = False
    out_features: int

    @abstractmethod
    def forward(self, features: Mapping[str, Features], present: Tensor) -> Features:
        """Fuse a batch.

        Args:
            features: for each modality, in the order of `inputs`, features of all B rows; those of absent rows may
                hold anything and must have no influence.
            present: (B, M) bool, which row has which modality. A row may lack all of them (its result is replaced).

        Returns:
            Features with `pooled` (B, out_features).
        """


class ModelFusion(nn.Module, Restorable, ABC):
    """M = M1 (+) ... (+) Mn: the predictions of several models, one per modality or nested fusion, to one.

    A subclass's constructor is `__init__(self, inputs: Mapping[str, int], *, num_outputs: int, space: Space,
    option=default, ...)`. `inputs` gives each part's name and the size of its features (0 if it has none), in the
    recipe's order; `num_outputs` is K; `space` is what the scores are. The framework passes these three in.

    The parts are trained by their own losses unless the recipe says otherwise. If the operator has parameters,
    training also adds the loss of its combined scores, computed on detached inputs, so that they alone follow it.

    Attributes:
        passed_in: keyword-only parameters that are no options, as the framework passes them in.
        spaces: the spaces in which the operator has a meaning.
        uses_features: whether `forward` reads `features`.
        fitted: whether `fit` has to be called, on rows that the parts were not trained on, before it gives its best.
        evidential: whether its parts need its `part_loss`, so that models trained without it cannot be combined; a
            part that is a combination of models then gets a head as well, which reads its scores.
        min_inputs, max_inputs, ordered: as for `FeatureFusion`.
    """

    passed_in: ClassVar[frozenset[str]] = frozenset({"num_outputs", "space", "restored"})
    spaces: ClassVar[frozenset[Space]] = frozenset({"log_probabilities", "log_odds", "values"})
    uses_features: ClassVar[bool] = False
    fitted: ClassVar[bool] = False
    evidential: ClassVar[bool] = False
    min_inputs: ClassVar[int] = 1
    max_inputs: ClassVar[int | None] = None
    ordered: ClassVar[bool] = False

    @abstractmethod
    def forward(
        self, scores: Mapping[str, Tensor], present: Tensor, features: Mapping[str, Tensor] | None = None
    ) -> Fused:
        """Combine a batch of predictions.

        Args:
            scores: for each part, in the order of `inputs`, (B, K) in the operator's space; those of absent rows
                may hold anything and must have no influence.
            present: (B, M) bool, which row has which part. A row may lack all of them (its result is replaced).
            features: for each part (B, D), if `uses_features`.
        """

    def fit(self, scores: Mapping[str, Tensor], present: Tensor, targets: Tensor) -> None:
        """Fit what needs fitting on N held-out rows.

        Args:
            scores: for each part (N, K).
            present: (N, M) bool.
            targets: as the task encodes them: (N,) int64 classes, (N, K) 0/1 labels, or (N, K) values.
        """

    def part_loss(self, scores: Tensor, targets: Tensor, progress: float) -> Tensor | None:
        """The loss of one part, (B,), instead of the task's; None for the task's.

        Args:
            scores: (B, K), what the part's head gives before the task makes scores of it (logits).
            targets: as the task encodes them.
            progress: the part of the training that is done, from 0 to 1.
        """
        return None

    def part_scores(self, logits: Tensor) -> Tensor | None:
        """The part's scores (B, K) from what its head gives, instead of the task's; None for the task's."""
        return None


class Task(Restorable, ABC):
    """What is to be predicted: it owns the target column, the loss, the metrics and how predictions are written.

    Its constructor takes options only. `fit` learns the labels from the training rows; the state is JSON.

    Attributes:
        space: what its scores are.
        num_outputs: K, the size of a row's scores. Set by `fit` and `load_state`.
        module: parameters of its own that `scores` and `loss` use, such as the cut points of an ordinal scale: trained,
            moved and saved with the model; made anew by `fit`, or of the right size by `load_state`.
        main_metric: the metric by which models are compared unless the recipe names another.
        metrics: every metric it knows by name, each with whether more is better.
    """

    space: ClassVar[Space]
    main_metric: ClassVar[str]
    metrics: ClassVar[Mapping[str, bool]]
    num_outputs: int
    module: nn.Module | None = None

    @property
    def num_logits(self) -> int:
        """The size of what a head gives for a row, which `scores` and `loss` take; K unless the task says otherwise."""
        return self.num_outputs

    @abstractmethod
    def fit(self, values: Sequence[Any]) -> None:
        """Learn the labels from the training rows' target values and set `num_outputs`.

        Raises:
            TargetError: the values do not fit the task (none, one class, numbers that are not finite, ...).
        """

    @abstractmethod
    def encode(self, values: Sequence[Any]) -> NDArray[Any]:
        """Target values as an array: (N,) int64 classes, (N, K) float32 labels or (N, K) float32 values.

        Raises:
            TargetError: a value is missing, not finite, or was never seen in training; all of them are named.
        """

    @abstractmethod
    def row_weights(self, targets: NDArray[Any]) -> NDArray[np.float32]:
        """The weight of each row's loss, (N,), from class weights and the like."""

    @abstractmethod
    def loss(self, scores: Tensor, targets: Tensor) -> Tensor:
        """The loss of each row, (B,), unweighted, of logits (B, num_logits) or of what `scores` made of them."""

    @abstractmethod
    def scores(self, logits: Tensor) -> Tensor:
        """What a head gives, (B, num_logits), in the task's space, (B, K); what is there already stays as it is."""

    @abstractmethod
    def prior(self, targets: NDArray[Any], weights: NDArray[np.float32]) -> Tensor:
        """The scores, (K,), of a row that has no modality at all: the training distribution."""

    @abstractmethod
    def evaluate(self, scores: Tensor, targets: Tensor, metrics: Sequence[str] = ()) -> dict[str, Any]:
        """Metrics of N rows: always the task's own, further ones by name; plain numbers, lists and dicts.

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
