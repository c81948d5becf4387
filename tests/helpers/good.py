"""One small component of each kind that keeps every promise; the mutants break one of them each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from annotated_types import Ge
from metric_references import accuracy, log_loss
from numpy.typing import NDArray
from torch import Tensor, nn

from mmreg import Encoder, FeatureFusion, Features, Fused, Modality, ModelFusion, Signal, Spec, Task
from mmreg.errors import OptionError, SpecError, TargetError, ValueLoadError
from mmreg.layers import length_mask, masked_mean, masked_softmax
from mmreg_tasks.contrastive import Contrastive


class Series(Modality):
    """A sequence of numbers.

    Args:
        noise: the deviation of noise that training adds.
    """

    transform_options = frozenset({"noise"})
    unaugmented: ClassVar[Mapping[str, Any] | None] = {"noise": 0.0}

    def __init__(self, *, noise: Annotated[float, Ge(0)] = 0.1) -> None:
        self.noise = noise
        self.mean = 0.0

    def load(self, value: Any) -> NDArray[Any]:
        try:
            array = np.array(value, np.float32)
        except (TypeError, ValueError, OverflowError) as error:
            raise ValueLoadError(f"no numbers: {error}") from error
        if array.ndim != 1 or not array.size or not np.isfinite(array).all():
            raise ValueLoadError(f"finite numbers in a row are needed, found the shape {array.shape}")
        return array[:, None]

    def fit_arrays(self, arrays: Iterator[NDArray[Any]]) -> None:
        means = [float(array.mean()) for array in arrays]
        self.mean = sum(means) / max(1, len(means))

    def transform(self, signal: Signal, *, training: bool, generator: torch.Generator | None = None) -> Signal:
        values = signal.values - self.mean
        if training:
            values = values + self.noise * torch.randn(values.shape, generator=generator, device=values.device)
        return signal.replace(values)

    @property
    def stored(self) -> Spec:
        return Spec("TC", (None, 1))

    @property
    def spec(self) -> Spec:
        return Spec("TC", (None, 1))

    def state(self) -> dict[str, Any]:
        return {"mean": self.mean}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.mean = state["mean"]

    def load_state_key(self) -> Any:
        return None


class Recurrent(Encoder):
    """A gated recurrent unit over a sequence, a norm and a linear layer.

    Args:
        hidden: the size of its states.
        features: the size of the result.
        dropout: the share of states dropped.
    """

    provides = frozenset({"pooled", "tokens"})

    def __init__(
        self, spec: Spec, *, hidden: int = 6, features: int = 4, dropout: float = 0.1, outputs: str = "pooled"
    ) -> None:
        super().__init__()
        reason = self.accepts(spec, {})
        if reason:
            raise SpecError(f"it does not take {spec}: {reason}")
        self.rnn = nn.GRU(spec.shape[1] or 1, hidden, batch_first=True)
        self.norm = nn.LayerNorm(hidden)
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(hidden, features)
        self.outputs = outputs
        self.out_features = features

    @classmethod
    def accepts(cls, spec: Spec, options: Mapping[str, Any]) -> str | None:
        fits = spec.axes == "TC" and spec.shape[1] is not None and spec.dtype == "float32"
        return None if fits else "it takes sequences (TC) of float32 vectors"

    def states(self, values: Tensor) -> Tensor:
        result: Tensor = self.norm(self.rnn(values)[0])
        return result

    def pool(self, states: Tensor, mask: Tensor | None) -> Tensor:
        return masked_mean(states, mask)

    def mask(self, signal: Signal) -> Tensor | None:
        return None if signal.lengths is None else length_mask(signal.lengths, signal.values.shape[1])

    def forward(self, signal: Signal) -> Features:
        mask = self.mask(signal)
        values = signal.values if mask is None else torch.where(mask.unsqueeze(-1), signal.values, 0)
        states = self.dropout(self.states(values))
        if self.outputs == "tokens":
            return Features(tokens=self.linear(states), mask=mask)
        return Features(pooled=self.linear(self.pool(states, mask)))


class Weighed(FeatureFusion):
    """The modalities' projections, weighed by a softmax over those that are there.

    Args:
        features: the size of the result.
    """

    def __init__(self, inputs: Mapping[str, int], *, features: int = 8) -> None:
        super().__init__()
        self.maps = nn.ModuleList(nn.Linear(size, features) for size in inputs.values())
        self.score = nn.Linear(features, 1, bias=False)  # a softmax takes no notice of a bias
        self.out_features = features

    def vectors(self, features: Mapping[str, Features], present: Tensor) -> list[Tensor]:
        found = []
        for index, given in enumerate(features.values()):
            assert given.pooled is not None
            found.append(torch.where(present[:, index, None], given.pooled, 0))
        return found

    def projected(self, vectors: list[Tensor]) -> Tensor:
        return torch.stack([layer(vector) for layer, vector in zip(self.maps, vectors, strict=True)], 1)

    def weights(self, projected: Tensor, present: Tensor) -> Tensor:
        return masked_softmax(self.score(torch.tanh(projected)).squeeze(-1), present)

    def forward(self, features: Mapping[str, Features], present: Tensor) -> Features:
        projected = self.projected(self.vectors(features, present))
        return Features(pooled=torch.einsum("bm,bmd->bd", self.weights(projected, present), projected))


class TokenMean(FeatureFusion):
    """The mean of the modalities' means of projected tokens.

    Args:
        features: the size of the result.
    """

    takes = "tokens"

    def __init__(self, inputs: Mapping[str, int], *, features: int = 8) -> None:
        super().__init__()
        self.maps = nn.ModuleList(nn.Linear(size, features) for size in inputs.values())
        self.out_features = features

    def mean(self, tokens: Tensor, mask: Tensor | None) -> Tensor:
        return masked_mean(tokens, mask)

    def forward(self, features: Mapping[str, Features], present: Tensor) -> Features:
        means = []
        for index, (layer, given) in enumerate(zip(self.maps, features.values(), strict=True)):
            tokens = given.tokens if given.tokens is not None else given.pooled[:, None]  # type: ignore[index]
            there = present[:, index].view(-1, 1, 1)
            mean = self.mean(layer(torch.where(there, tokens, 0)), given.mask)
            means.append(torch.where(there[:, 0], mean, 0))
        return Features(pooled=torch.stack(means, 1).mean(1))


class Pool(ModelFusion):
    """The learned convex combination of the parts' scores, with a temperature that is fitted.

    Args:
        floor: what the temperature must not fall below.
    """

    fitted = True
    temperature: Tensor

    def __init__(
        self, inputs: Mapping[str, int], *, num_outputs: int, space: str, floor: Annotated[float, Ge(0)] = 0.1
    ) -> None:
        super().__init__()
        self.space, self.floor = space, floor
        self.logits = nn.Parameter(torch.zeros(len(inputs)))
        self.register_buffer("temperature", torch.ones(()))

    def stacked(self, scores: Mapping[str, Tensor], present: Tensor) -> Tensor:
        return torch.where(present.unsqueeze(-1), torch.stack(list(scores.values()), 1), 0)

    def weights(self, present: Tensor) -> Tensor:
        return masked_softmax(self.logits.expand(present.shape), present)

    def normalised(self, scores: Tensor) -> Tensor:
        return scores.log_softmax(-1) if self.space == "log_probabilities" else scores

    def forward(
        self, scores: Mapping[str, Tensor], present: Tensor, features: Mapping[str, Tensor] | None = None
    ) -> Fused:
        combined = (self.weights(present).unsqueeze(-1) * self.stacked(scores, present)).sum(1)
        return Fused(self.normalised(combined / self.temperature))

    def fit(self, scores: Mapping[str, Tensor], present: Tensor, targets: Tensor) -> None:
        spread = self.stacked(scores, present).square().mean().sqrt()
        self.temperature.copy_(spread.clamp(min=self.floor))


class Choice(Task):
    """One of several words.

    Args:
        strict: whether blanks around a word make it another one.
    """

    space = "log_probabilities"
    main_metric = "accuracy"
    metrics: ClassVar[Mapping[str, bool]] = {"accuracy": True, "log_loss": False}

    def __init__(self, *, strict: bool = True) -> None:
        self.strict = strict
        self.words: list[str] = []
        self.num_outputs = 0

    def checked(self, values: Sequence[Any]) -> list[str]:
        if not values:
            raise TargetError("there are no rows")
        bad = [value for value in values if not isinstance(value, str) or not value]
        if bad:
            raise TargetError(f"these are no words: {bad}")
        return [value if self.strict else value.strip() for value in values]

    def fit(self, values: Sequence[Any]) -> None:
        self.words = sorted(set(self.checked(values)))
        self.num_outputs = len(self.words)

    def encode(self, values: Sequence[Any]) -> NDArray[Any]:
        words = self.checked(values)
        unknown = sorted(set(words) - set(self.words))
        if unknown:
            raise TargetError(f"never seen in training: {unknown}")
        return np.array([self.words.index(word) for word in words], np.int64)

    def row_weights(self, targets: NDArray[Any]) -> NDArray[np.float32]:
        return np.ones(len(targets), np.float32)

    def loss(self, scores: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.cross_entropy(scores, targets, reduction="none")

    def scores(self, logits: Tensor) -> Tensor:
        return logits.float().log_softmax(-1)

    def prior(self, targets: NDArray[Any], weights: NDArray[np.float32]) -> Tensor:
        counts = np.bincount(targets, weights, self.num_outputs) + 1e-6
        return torch.from_numpy(np.log(counts / counts.sum())).float()

    def evaluate(self, scores: Tensor, targets: Tensor, metrics: Sequence[str] = ()) -> dict[str, Any]:
        unknown = set(metrics) - set(self.metrics)
        if unknown:
            raise OptionError(f"unknown metrics: {unknown}")
        right = (scores.argmax(1) == targets).double().mean()
        return {"accuracy": float(right), "log_loss": float(self.loss(scores, targets).mean())}

    def predictions(self, scores: Tensor) -> dict[str, list[Any]]:
        return {"word": [self.words[k] for k in scores.argmax(1).tolist()], "surest": scores.amax(1).tolist()}

    def headline(self, result: Mapping[str, Any], rows: int) -> str:
        return f"Accuracy: {result['accuracy']:.0%} of {rows}"

    def state(self) -> dict[str, Any]:
        return {"words": list(self.words)}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.words = list(state["words"])
        self.num_outputs = len(self.words)


SERIES_VALUES = [[1.0, 2.0, 4.0], [0.5], [3.0, -1.0], [2.0, 2.0, 2.0, 8.0], [-3.0, 1.0], [5.0]]
SERIES_BAD = [[1.0, float("nan")], "word", [[1.0], [2.0]]]

MATERIAL: Mapping[type, dict[str, Any]] = {
    Contrastive: {},
    Series: {"values": SERIES_VALUES, "bad_values": SERIES_BAD},
    Recurrent: {},
    Weighed: {},
    TokenMean: {},
    Pool: {},
    Choice: {"references": {"accuracy": accuracy, "log_loss": log_loss}},
}
