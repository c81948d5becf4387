"""Broken copies of the good components: each breaks one promise, which one check (or a few) has to notice.

`MUTANTS` holds them with the check that is meant for each, and the further ones that cannot but notice it too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from good import MATERIAL, Choice, Pool, Recurrent, Series, TokenMean, Weighed
from numpy.typing import NDArray
from torch import Tensor, nn

from mmreg import Concern, Features, Fused, Signal, Spec, TargetValues
from mmreg.errors import TargetError
from mmreg.layers import masked_mean
from mmreg_tasks.contrastive import Contrastive


@dataclass(frozen=True)
class Mutant:
    cls: type
    check: str
    also: frozenset[str]
    material: Mapping[str, Any]


MUTANTS: dict[str, Mutant] = {}


def caught_by(check: str, *also: str, **material: Any) -> Callable[[type], type]:
    """Enter a class among the mutants; the rest of its material is that of the component it breaks."""

    def add(cls: type) -> type:
        base = next(parent for parent in cls.__mro__ if parent in MATERIAL)
        cls.__doc__ = cls.__doc__ or base.__doc__
        MUTANTS[cls.__name__] = Mutant(cls, check, frozenset(also), {**MATERIAL[base], **material})
        return cls

    return add


# --- options


@caught_by("options_documented")
class UndocumentedOption(Weighed):
    """The modalities' projections.

    Args:
        size: this is not what the option is called.
    """


@caught_by("options_typed")
class UntypedOption(Weighed):
    def __init__(self, inputs: Mapping[str, int], *, features=8) -> None:  # type: ignore[no-untyped-def]
        super().__init__(inputs, features=features)


@caught_by("options_typed")
class DefaultOfAnotherType(Weighed):
    def __init__(self, inputs: Mapping[str, int], *, features: int = 8.5) -> None:  # type: ignore[assignment]
        super().__init__(inputs, features=int(features))


@caught_by("unknown_option_refused")
class SwallowsOptions(Weighed):
    def __init__(self, inputs: Mapping[str, int], *, features: int = 8, **others: Any) -> None:
        super().__init__(inputs, features=features)


# --- weights and state


@caught_by("same_seed_same_weights")
class UnseededWeight(Recurrent):
    def __init__(
        self, spec: Spec, *, hidden: int = 6, features: int = 4, dropout: float = 0.1, outputs: str = "pooled"
    ) -> None:
        super().__init__(spec, hidden=hidden, features=features, dropout=dropout, outputs=outputs)
        drawn = np.random.default_rng().normal(size=(features, hidden))
        self.linear.weight.data = torch.from_numpy(drawn.astype(np.float32))


@caught_by("state_round_trip")
class UnsavedConstant(Weighed):
    def __init__(self, inputs: Mapping[str, int], *, features: int = 8) -> None:
        super().__init__(inputs, features=features)
        self.scale = float(torch.rand(())) + 0.5

    def projected(self, vectors: list[Tensor]) -> Tensor:
        return super().projected(vectors) * self.scale


@caught_by("weights_are_parameters", "state_round_trip", "float64", "devices", "order")
class FactorsInAList(Weighed):
    def __init__(self, inputs: Mapping[str, int], *, features: int = 8) -> None:
        super().__init__(inputs, features=features)
        self.factors = [torch.randn(features, size, requires_grad=True) for size in inputs.values()]

    def projected(self, vectors: list[Tensor]) -> Tensor:
        more = [vector @ factor.T for vector, factor in zip(vectors, self.factors, strict=True)]
        return super().projected(vectors) + torch.stack(more, 1)


@caught_by("weights_are_parameters")
class WeightAsBuffer(Weighed):
    def __init__(self, inputs: Mapping[str, int], *, features: int = 8) -> None:
        super().__init__(inputs, features=features)
        self.register_buffer("mixing", torch.randn(features, features))

    def projected(self, vectors: list[Tensor]) -> Tensor:
        return super().projected(vectors) @ self.get_buffer("mixing")


@caught_by("gradients")
class UnusedParameter(Recurrent):
    def __init__(
        self, spec: Spec, *, hidden: int = 6, features: int = 4, dropout: float = 0.1, outputs: str = "pooled"
    ) -> None:
        super().__init__(spec, hidden=hidden, features=features, dropout=dropout, outputs=outputs)
        self.gate = nn.Parameter(torch.zeros(features))

    def states(self, values: Tensor) -> Tensor:
        return super().states(values) + 0 * self.gate.sum()


@caught_by("gradients")
class DetachedBranch(Recurrent):
    def states(self, values: Tensor) -> Tensor:
        return self.norm(self.rnn(values)[0].detach())  # type: ignore[no-any-return]


# --- precision and devices


@caught_by("float64")
class Float32Only(Recurrent):
    def forward(self, signal: Signal) -> Features:
        return super().forward(signal.replace(signal.values.float()))


@caught_by("reduced_precision")
class BreaksUnderAutocast(Weighed):
    def projected(self, vectors: list[Tensor]) -> Tensor:
        values = super().projected(vectors)
        rows = torch.arange(len(values), device=values.device)
        filled = torch.zeros(values.shape, dtype=vectors[0].dtype, device=values.device)
        filled[rows] = values
        return filled


@caught_by("devices")
class ConstantStaysBehind(Weighed):
    def __init__(self, inputs: Mapping[str, int], *, features: int = 8) -> None:
        super().__init__(inputs, features=features)
        self.scale = torch.linspace(1, 2, features)

    def projected(self, vectors: list[Tensor]) -> Tensor:
        return super().projected(vectors) * self.scale


# --- rows and padding


@caught_by("eval_is_deterministic", "rows_are_independent", "padding", "float64")
class DropoutInEvaluation(Recurrent):
    def states(self, values: Tensor) -> Tensor:
        return nn.functional.dropout(super().states(values), 0.1)


@caught_by("eval_is_deterministic")
class CountsInEvaluation(Weighed):
    def __init__(self, inputs: Mapping[str, int], *, features: int = 8) -> None:
        super().__init__(inputs, features=features)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def projected(self, vectors: list[Tensor]) -> Tensor:
        self.get_buffer("calls").add_(1)
        return super().projected(vectors)


@caught_by("batch_of_one")
class NeedsTwoRows(Recurrent):
    def pool(self, states: Tensor, mask: Tensor | None) -> Tensor:
        pooled = super().pool(states, mask)
        if self.training and len(pooled) < 2:
            raise ValueError("Expected more than 1 value per channel when training")
        return pooled


@caught_by("rows_are_independent")
class BatchStatisticsInEvaluation(Recurrent):
    def pool(self, states: Tensor, mask: Tensor | None) -> Tensor:
        pooled = super().pool(states, mask)
        return pooled - 0.5 * pooled.mean(0)


@caught_by("rows_are_independent")
class SoftmaxOverTheBatch(Weighed):
    def weights(self, projected: Tensor, present: Tensor) -> Tensor:
        scores = self.score(torch.tanh(projected)).squeeze(-1).masked_fill(~present, -1e4)
        return torch.where(present, scores.softmax(0), 0)


@caught_by("rows_are_independent")
class DividesByTheLongestRow(Recurrent):
    def pool(self, states: Tensor, mask: Tensor | None) -> Tensor:
        if mask is None:
            return states.mean(1)
        return (states * mask.unsqueeze(-1)).sum(1) / mask.sum(1).max()


@caught_by("rows_are_independent")
class DividesByTheMostTokens(TokenMean):
    def mean(self, tokens: Tensor, mask: Tensor | None) -> Tensor:
        if mask is None:
            return tokens.mean(1)
        return torch.where(mask.unsqueeze(-1), tokens, 0).sum(1) / mask.sum(1).max()


@caught_by("rows_are_independent")
class DependsOnTheShareOfPresentModalities(Weighed):
    def weights(self, projected: Tensor, present: Tensor) -> Tensor:
        return super().weights(projected, present) * (1 + present.to(projected).mean())


@caught_by("rows_are_independent")
class DependsOnTheShareOfPresentParts(Pool):
    def stacked(self, scores: Mapping[str, Tensor], present: Tensor) -> Tensor:
        stacked = super().stacked(scores, present)
        return stacked * (1 + present.to(stacked).mean())


@caught_by("padding", "rows_are_independent")
class PaddingLeaks(Recurrent):
    def pool(self, states: Tensor, mask: Tensor | None) -> Tensor:
        return states.mean(1)


@caught_by("padding", "rows_are_independent")
class ReadsTheLastPaddedStep(Recurrent):
    def pool(self, states: Tensor, mask: Tensor | None) -> Tensor:
        return states[:, -1]


@caught_by("padding", "rows_are_independent")
class StatisticsSeePadding(Recurrent):
    def __init__(
        self, spec: Spec, *, hidden: int = 6, features: int = 4, dropout: float = 0.1, outputs: str = "pooled"
    ) -> None:
        super().__init__(spec, hidden=hidden, features=features, dropout=dropout, outputs=outputs)
        self.norm = nn.BatchNorm1d(hidden)  # type: ignore[assignment]
        self.beside = nn.Parameter(torch.ones(()))

    def states(self, values: Tensor) -> Tensor:
        states = self.rnn(values)[0] * self.beside
        if states.shape[0] * states.shape[1] == 1:
            return states  # type: ignore[no-any-return]
        return self.norm(states.transpose(1, 2)).transpose(1, 2)  # type: ignore[no-any-return]


@caught_by("padding")
class IgnoresTheTokensMask(TokenMean):
    def mean(self, tokens: Tensor, mask: Tensor | None) -> Tensor:
        return tokens.mean(1)


@caught_by("learns")
class TooSmallToLearn(Recurrent):
    def forward(self, signal: Signal) -> Features:
        found = super().forward(signal)
        if found.pooled is None:
            return found
        return Features(pooled=1e-6 * found.pooled)


# --- encoders


@caught_by("output_shape")
class GivesMoreThanAsked(Recurrent):
    def forward(self, signal: Signal) -> Features:
        found = super().forward(signal)
        if found.tokens is None:
            return found
        return Features(pooled=masked_mean(found.tokens, found.mask), tokens=found.tokens, mask=found.mask)


@caught_by("specs", specs=[Spec("TC", (None, 5))])
class AcceptsEverythingButCrashes(Recurrent):
    @classmethod
    def accepts(cls, spec: Spec, options: Mapping[str, Any]) -> str | None:
        return None


@caught_by("specs")
class BuildsWhatItRefuses(Recurrent):
    @classmethod
    def accepts(cls, spec: Spec, options: Mapping[str, Any]) -> str | None:
        if options and spec.ragged_axis is None:
            return "it takes ragged sequences only"
        return super().accepts(spec, options)


@caught_by("specs")
class RefusesWithoutAReason(Recurrent):
    @classmethod
    def accepts(cls, spec: Spec, options: Mapping[str, Any]) -> str | None:
        reason = super().accepts(spec, options)
        return reason if reason is None or not options else ""


@caught_by("shortest_length", "rows_are_independent")
class NeedsThreeSteps(Recurrent):
    def states(self, values: Tensor) -> Tensor:
        if values.shape[1] < 3:
            raise RuntimeError("Kernel size can't be greater than actual input size")
        return super().states(values)


@caught_by("absent_rows")
class DrawsFromNumPyInTraining(Recurrent):
    def pool(self, states: Tensor, mask: Tensor | None) -> Tensor:
        noise = float(np.random.default_rng().normal()) if self.training else 0.0
        return super().pool(states, mask) * (1 + 0.01 * noise)


# --- fusion


@caught_by("number_of_inputs", "order")
class AtMostThree(Weighed):
    def __init__(self, inputs: Mapping[str, int], *, features: int = 8) -> None:
        if len(inputs) > 3:
            raise IndexError("list index out of range")
        super().__init__(inputs, features=features)


@caught_by("number_of_inputs")
class ModulesByName(Weighed):
    def __init__(self, inputs: Mapping[str, int], *, features: int = 8) -> None:
        super().__init__(inputs, features=features)
        self.maps = nn.ModuleDict(  # type: ignore[assignment]
            {name: nn.Linear(size, features) for name, size in inputs.items()}
        )
        self.names = list(inputs)

    def projected(self, vectors: list[Tensor]) -> Tensor:
        layers = [self.maps[name] for name in self.names]  # type: ignore[index]
        return torch.stack([layer(vector) for layer, vector in zip(layers, vectors, strict=True)], 1)


@caught_by("order")
class OrderMatters(Weighed):
    def projected(self, vectors: list[Tensor]) -> Tensor:
        projected = super().projected(vectors)
        places = torch.arange(projected.shape[1], device=projected.device) + 1
        return projected * places[:, None]


@caught_by("order")
class GatedByTheNext(Weighed):
    """The modalities' projections, each gated by the next one: turned round, it is the same.

    Args:
        features: the size of the result.
    """

    def projected(self, vectors: list[Tensor]) -> Tensor:
        projected = super().projected(vectors)
        return projected * torch.sigmoid(projected.roll(1, 1))


@caught_by("order")
class CombinesFromTheLeft(Pool):
    def stacked(self, scores: Mapping[str, Tensor], present: Tensor) -> Tensor:
        first, *others = super().stacked(scores, present).unbind(1)
        folded = [first]
        for each in others:
            folded.append(0.5 * folded[-1] + each)
        return torch.stack(folded, 1)


@caught_by("absence")
class AbsentModalityLeaks(Weighed):
    def vectors(self, features: Mapping[str, Features], present: Tensor) -> list[Tensor]:
        found = []
        for index, given in enumerate(features.values()):
            assert given.pooled is not None
            found.append(given.pooled * present[:, index, None])  # NaN times zero is NaN
        return found


@caught_by("absence")
class SkipsAnAbsentModality(Weighed):
    def projected(self, vectors: list[Tensor]) -> Tensor:
        columns = []
        for layer, vector in zip(self.maps, vectors, strict=True):
            columns.append(layer(vector) if vector.any() else vector.new_zeros(len(vector), self.out_features))
        return torch.stack(columns, 1)


@caught_by("extreme_values")
class Overflows(Weighed):
    def projected(self, vectors: list[Tensor]) -> Tensor:
        return (super().projected(vectors).exp() + 1).log()


@caught_by("distributions")
class NotADistribution(Pool):
    def normalised(self, scores: Tensor) -> Tensor:
        return scores


@caught_by("fit")
class FitSeesAbsentParts(Pool):
    def fit(self, scores: Mapping[str, Tensor], present: Tensor, targets: Tensor) -> None:
        spread = torch.stack(list(scores.values())).nan_to_num(7.0).square().mean().sqrt()
        self.temperature.copy_(spread.clamp(min=self.floor))


@caught_by("extreme_values")
class LogOfProbabilities(Pool):
    def forward(
        self, scores: Mapping[str, Tensor], present: Tensor, features: Mapping[str, Tensor] | None = None
    ) -> Fused:
        stacked = self.stacked(scores, present)
        if self.space == "values":
            return super().forward(scores, present)
        combined = (self.weights(present).unsqueeze(-1) * stacked.exp()).sum(1).clamp(min=1e-37)
        return Fused(self.normalised(combined.log() / self.temperature))


# --- modalities


@caught_by("declarations")
class DeclaresAnUnknownOption(Series):
    transform_options = frozenset({"noise", "jitter"})


@caught_by("load", "same_fit_same_state", "modality_state", "fits_see_training_rows_only")
class LoadsAtRandom(Series):
    def load(self, value: Any) -> NDArray[Any]:
        array = super().load(value)
        return array + np.random.default_rng().normal(size=array.shape).astype(np.float32)


@caught_by("load", "promised_spec", "absent_values")
class StoresAnotherDtype(Series):
    def load(self, value: Any) -> NDArray[Any]:
        return super().load(value).astype(np.float64)


@caught_by("load")
class ChangesItsValue(Series):
    def load(self, value: Any) -> NDArray[Any]:
        array = super().load(value)
        value.sort()
        return array


@caught_by("bad_values")
class CrashesOnBadValues(Series):
    def load(self, value: Any) -> NDArray[Any]:
        return np.array([float(number) for number in value], np.float32)[:, None]


@caught_by("bad_values")
class LoadsBadValues(Series):
    def load(self, value: Any) -> NDArray[Any]:
        if isinstance(value, list) and value and isinstance(value[0], float):
            return np.array(value, np.float32)[:, None]
        return super().load(value)


@caught_by("same_fit_same_state", "fits_see_training_rows_only")
class FitsOnASample(Series):
    def fit_arrays(self, arrays: Iterator[NDArray[Any]]) -> None:
        super().fit_arrays(iter([np.random.default_rng().choice(array[:, 0], 1) for array in arrays]))
        self.mean += float(np.random.default_rng().normal(0, 1e-3))


@caught_by("fits_see_training_rows_only")
class FitPeeks(Series):
    def __init__(self, *, noise: float = 0.1) -> None:
        super().__init__(noise=noise)
        self.loaded: list[float] = []

    def load(self, value: Any) -> NDArray[Any]:
        array = super().load(value)
        self.loaded.append(float(array.mean()))
        return array

    def fit_arrays(self, arrays: Iterator[NDArray[Any]]) -> None:
        self.mean = sum(self.loaded) / max(1, len(self.loaded))


@caught_by("modality_state", "same_fit_same_state", "fits_see_training_rows_only", "absent_values")
class StateIsNotJSON(Series):
    def state(self) -> dict[str, Any]:
        return {"mean": np.float32(self.mean)}


@caught_by("modality_state")
class StateIsNotLoaded(Series):
    def load_state(self, state: Mapping[str, Any]) -> None:
        pass


@caught_by("absent_values")
class NeedsTrainingValues(Series):
    def fit_arrays(self, arrays: Iterator[NDArray[Any]]) -> None:
        means = [float(array.mean()) for array in arrays]
        self.mean = sum(means) / len(means)


@caught_by("promised_spec", "absent_values")
class PromisesAnotherSpec(Series):
    @property
    def spec(self) -> Spec:
        return Spec("TC", (None, 2))


@caught_by("promised_spec")
class CutsWhatIsNoPicture(Series):
    mixes = frozenset({"mixup", "cutmix"})


@caught_by("transform_rows")
class TransformDependsOnTheBatch(Series):
    def transform(self, signal: Signal, *, training: bool, generator: torch.Generator | None = None) -> Signal:
        found = super().transform(signal, training=training, generator=generator)
        return found.replace(found.values - signal.values.mean())


@caught_by("transform_randomness", "modality_state")
class DrawsFromTheGlobalState(Series):
    def transform(self, signal: Signal, *, training: bool, generator: torch.Generator | None = None) -> Signal:
        return super().transform(signal, training=training, generator=None)


@caught_by("unaugmented")
class AugmentsNevertheless(Series):
    def transform(self, signal: Signal, *, training: bool, generator: torch.Generator | None = None) -> Signal:
        found = super().transform(signal, training=training, generator=generator)
        return found.replace(found.values * 1.01) if training else found


@caught_by("transform_devices")
class MeanStaysOnTheHost(Series):
    def transform(self, signal: Signal, *, training: bool, generator: torch.Generator | None = None) -> Signal:
        found = super().transform(signal, training=training, generator=generator)
        return found.replace(found.values * torch.tensor([2.0]))


# --- tasks


@caught_by("targets")
class EncodesAnotherDtype(Choice):
    def encode(self, values: Sequence[Any]) -> NDArray[Any]:
        return super().encode(values).astype(np.int32)

    def loss(self, scores: Tensor, targets: Tensor) -> Tensor:
        return super().loss(scores, targets.long())


@caught_by("columns")
class EncodesColumnsOtherwise(Choice):
    def encode_column(self, values: TargetValues) -> NDArray[Any]:
        return super().encode_column(values)[::-1]


@caught_by("columns")
class LearnsColumnsOtherwise(Choice):
    def fit_column(self, values: TargetValues) -> None:
        self.fit([*values, "a word of its own"])


@caught_by("labels_round_trip")
class WritesAnotherLabel(Choice):
    def predictions(self, scores: Tensor) -> dict[str, list[Any]]:
        return super().predictions(scores.roll(1, 1))


@caught_by("bad_targets")
class MissingIsAClass(Choice):
    def checked(self, values: Sequence[Any]) -> list[str]:
        return super().checked([value if value is not None else "none" for value in values])

    def encode(self, values: Sequence[Any]) -> NDArray[Any]:
        if None in values:
            raise TargetError("missing")
        return super().encode(values)


@caught_by("concerns")
class ConcernsAreTexts(Choice):
    def concerns(self, targets: Mapping[str, NDArray[Any]]) -> list[Any]:
        return ["few rows"]


@caught_by("concerns")
class ConcernsNameNoMetric(Choice):
    def concerns(self, targets: Mapping[str, NDArray[Any]]) -> list[Concern]:
        return [Concern("few rows", metric="acuracy")]


@caught_by("concerns")
class ConcernsSetNoOption(Choice):
    def concerns(self, targets: Mapping[str, NDArray[Any]]) -> list[Concern]:
        return [Concern("few rows", {"strictly": True})]


@caught_by("scores", "metrics")
class ScoresAreLogits(Choice):
    def scores(self, logits: Tensor) -> Tensor:
        return logits.float()


@caught_by("loss", "metrics")
class LossPunishesCertainty(Choice):
    def loss(self, scores: Tensor, targets: Tensor) -> Tensor:
        return super().loss(scores, targets) + 2 * scores.softmax(-1).amax(1)


@caught_by("loss")
class LossOfTheBatch(Choice):
    def loss(self, scores: Tensor, targets: Tensor) -> Tensor:
        return super().loss(scores, targets).mean().expand(len(targets))


@caught_by("task_devices")
class WeightsStayOnTheHost(Choice):
    def loss(self, scores: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.cross_entropy(scores, targets, torch.ones(self.num_outputs), reduction="none")


@caught_by("task_devices")
class ScoresMoveToTheHost(Choice):
    def scores(self, logits: Tensor) -> Tensor:
        return torch.zeros(logits.shape) if logits.is_meta else super().scores(logits).cpu()


@caught_by("metrics")
class WrongMetric(Choice):
    def evaluate(self, scores: Tensor, targets: Tensor, metrics: Sequence[str] = ()) -> dict[str, Any]:
        result = super().evaluate(scores, targets, metrics)
        return {**result, "accuracy": result["accuracy"] ** 2}


@caught_by("metrics")
class WrongLogLoss(Choice):
    def evaluate(self, scores: Tensor, targets: Tensor, metrics: Sequence[str] = ()) -> dict[str, Any]:
        result = super().evaluate(scores, targets, metrics)
        return {**result, "log_loss": result["log_loss"] * 2}


@caught_by("metrics")
class MetricTheWrongWayRound(Choice):
    metrics = {"accuracy": True, "log_loss": True}  # noqa: RUF012


@caught_by("task_state")
class ForgetsTheOrder(Choice):
    def state(self) -> dict[str, Any]:
        return {"words": self.words[::-1]}


@caught_by("task_state", "columns")
class FitsInAnyOrder(Choice):
    turns = 0

    def fit(self, values: Sequence[Any]) -> None:
        super().fit(values)
        FitsInAnyOrder.turns += 1
        first = FitsInAnyOrder.turns % len(self.words)
        self.words = self.words[first:] + self.words[:first]


class Adjusted(Choice):
    """Learns how often each word is right to be expected."""

    learns_from_scores = True

    def fit(self, values: Sequence[Any]) -> None:
        super().fit(values)
        self.module = Shares(self.num_outputs)

    def load_state(self, state: Mapping[str, Any]) -> None:
        super().load_state(state)
        self.module = Shares(self.num_outputs)

    def fit_scores(self, scores: Tensor, targets: Tensor) -> None:
        self.module.shares.copy_(torch.bincount(targets, minlength=self.num_outputs) / len(targets))


class Shares(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("shares", torch.zeros(size))


@caught_by("fit_scores")
class KeepsWhatItLearnedToItself(Adjusted):
    share = 0.0

    def fit_scores(self, scores: Tensor, targets: Tensor) -> None:
        self.share = float((targets == 0).float().mean())

    def predictions(self, scores: Tensor) -> dict[str, list[Any]]:
        return {**super().predictions(scores), "share": [self.share] * len(scores)}


@caught_by("fit_scores")
class LearnsNaN(Adjusted):
    def fit_scores(self, scores: Tensor, targets: Tensor) -> None:
        self.module.shares.fill_(float("nan"))


@caught_by("fit_scores", "task_devices")
class ChangesItsScores(Adjusted):
    def scores(self, logits: Tensor) -> Tensor:
        return (super().scores(logits) + getattr(self.module, "shares", torch.zeros(self.num_outputs))).log_softmax(-1)


# --- tasks without a target


@caught_by("targets", "columns")
class EncodesWithoutATarget(Contrastive):
    def encode(self, values: Sequence[Any]) -> NDArray[np.float32]:
        return np.zeros((len(values), 1), np.float32)


@caught_by("scores")
class LongVectors(Contrastive):
    def scores(self, logits: Tensor) -> Tensor:
        return torch.where(super().scores(logits) != 0, logits.float(), 0)


@caught_by("scores")
class HeadHearsTheAbsent(Contrastive):
    def head(self, inputs: Mapping[str, int]) -> nn.Module:
        head = super().head(inputs)
        head.register_forward_pre_hook(lambda module, given: (given[0], torch.ones_like(given[1])))
        return head


@caught_by("loss")
class EmptyRowsAreNegatives(Contrastive):
    def loss(self, scores: Tensor, targets: Tensor) -> Tensor:
        return super().loss(scores, targets) + 0.01 * len(scores)


@caught_by("loss")
class FirstRowsCountMore(Contrastive):
    def loss(self, scores: Tensor, targets: Tensor) -> Tensor:
        return super().loss(scores, targets) * torch.linspace(2, 1, len(scores), device=scores.device)
