"""Fusion operators of both levels, with the batches that they are tested with.

Axes: B batch, T tokens, D features, K classes, M modalities.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmreg.contract.fusion import ModelFusion
from mmreg.contract.signals import Features, Fused
from mmreg.contract.task import Space
from mmreg.testing.cases import Batch, Case, provides_cases
from mmreg.testing.fusion_batches import FeatureBatch, FusionBatch, ScoreBatch
from mmreg.testing.subject import Subject, expect

NAMES = ("image", "text", "audio", "depth", "motion", "pulse", "radar")
SIZES = (3, 5, 2, 4, 8, 9, 10)
"""D of each modality: all different, no multiple of 6 or 7, and with a prime sum; see `mmreg.testing.order`."""
LENGTHS = (4, 1, 3, 2, 5, 2, 3)
"""T of each modality's longest row."""
MOST = 5
"""The number of modalities up to which an operator that takes any number is tested."""
NUM_OUTPUTS = 3
"""K of a model-level operator."""

Form = Literal["pooled", "tokens", "pooled and tokens"]


@dataclass(frozen=True)
class FusionCase(Case):
    """An operator for some modalities.

    Attributes:
        cls: its class.
        inputs: name and size of each modality.
        options: its options.
    """

    cls: Any
    inputs: Mapping[str, int]
    options: Mapping[str, Any]

    @property
    def label(self) -> str:
        """The number of modalities, and what they give."""
        return f"with {len(self.inputs)} {'modality' if len(self.inputs) == 1 else 'modalities'} ({self.what})"

    @property
    def has_nothing_to_weigh(self) -> bool:
        """See `Case`."""
        return len(self.inputs) == 1

    @property
    @abstractmethod
    def what(self) -> str:
        """What the modalities give."""

    @abstractmethod
    def batch(self, rows: int = 6, *, seed: int = 1, labels: Tensor | None = None) -> FusionBatch:
        """See `Case`."""

    def varied(self, rows: int) -> FusionBatch:
        """See `Case`: half of the rows have everything, each of the others lacks one modality."""
        present = torch.ones(rows, len(self.inputs), dtype=torch.bool)
        lacking = torch.arange(rows // 2)
        present[lacking, lacking % len(self.inputs)] = False
        return self.batch(rows).with_present(present)

    def permuted(self, order: Sequence[int]) -> FusionCase:
        """The case with its modalities in another order."""
        names = list(self.inputs)
        return replace(self, inputs={names[k]: self.inputs[names[k]] for k in order})


@dataclass(frozen=True)
class FeatureCase(FusionCase):
    """A feature-level operator for modalities of one form."""

    form: Form

    @property
    def what(self) -> str:
        """See `FusionCase`."""
        return self.form

    def build(self) -> nn.Module:
        """See `Case`."""
        module: nn.Module = self.cls(dict(self.inputs), **self.options)
        return module

    def batch(self, rows: int = 6, *, seed: int = 1, labels: Tensor | None = None) -> FeatureBatch:
        """See `Case`; all tokens of the third modality are valid, so it has no mask."""
        generator = torch.Generator().manual_seed(seed)
        features = {}
        for index, (name, size) in enumerate(self.inputs.items()):
            if self.form == "pooled" or (self.form == "pooled and tokens" and index % 2 == 0):
                features[name] = Features(pooled=_numbers((rows, size), generator, labels))
                continue
            longest = LENGTHS[index % len(LENGTHS)]
            lengths = torch.randint(1, longest + 1, (rows,), generator=generator)
            mask = None if index == 2 else torch.arange(longest)[None] < lengths[:, None]
            features[name] = Features(tokens=_numbers((rows, longest, size), generator, labels), mask=mask)
        return FeatureBatch(features, torch.ones(rows, len(self.inputs), dtype=torch.bool))

    def check_shape(self, module: nn.Module, rows: int) -> None:
        """See `Case`."""
        size = getattr(module, "out_features", None)
        expect(isinstance(size, int) and size > 0, f"out_features should be a positive number, found {size!r}")
        assert isinstance(size, int)
        batch = self.batch(rows)
        fused = module(batch.features, batch.present)
        expect(isinstance(fused, Features), f"forward should give Features, found {type(fused).__name__}")
        expect(fused.pooled is not None, "it should give pooled, found none")
        _expect_rows("pooled", fused.pooled, (rows, size))
        _expect_scalars(fused.losses)

    def learning(self, module: nn.Module) -> tuple[nn.Module, Callable[[Batch, Tensor], Tensor]]:
        """See `Case`."""
        head = nn.Linear(cast(int, module.out_features), 2)

        def loss(batch: Batch, labels: Tensor) -> Tensor:
            found = batch.run(module)
            return functional.cross_entropy(head(found.rows["pooled"]), labels)

        return head, loss


@dataclass(frozen=True)
class ScoreCase(FusionCase):
    """A model-level operator in one space."""

    space: Space
    num_outputs: int = NUM_OUTPUTS

    @property
    def what(self) -> str:
        """See `FusionCase`."""
        return self.space

    def build(self) -> nn.Module:
        """See `Case`."""
        passed_in = {"num_outputs": self.num_outputs, "space": self.space}
        module: nn.Module = self.cls(dict(self.inputs), **passed_in, **self.options)
        return module

    @cached_property
    def prototype(self) -> ModelFusion:
        """An operator to ask for scores and losses of parts."""
        with torch.random.fork_rng(devices=[]):
            return cast(ModelFusion, self.build())

    def part_scores(self, logits: Tensor) -> Tensor:
        """A part's scores, as the model makes them of what its head gives."""
        own = self.prototype.part_scores(logits)
        if own is None:
            return logits.log_softmax(-1) if self.space == "log_probabilities" else logits
        return own

    def batch(self, rows: int = 6, *, seed: int = 1, labels: Tensor | None = None) -> ScoreBatch:
        """See `Case`."""
        generator = torch.Generator().manual_seed(seed)
        scores, features = {}, {}
        for name, size in self.inputs.items():
            scores[name] = self.part_scores(2 * torch.randn(rows, self.num_outputs, generator=generator))
            features[name] = _numbers((rows, size), generator, labels)
        return ScoreBatch(scores, features, torch.ones(rows, len(self.inputs), dtype=torch.bool))

    def targets(self, labels: Tensor) -> Tensor:
        """Class numbers (B,) as the task would encode them."""
        if self.space == "log_probabilities":
            return labels
        return functional.one_hot(labels, self.num_outputs).float()

    def fit(self, module: nn.Module) -> None:
        """Fit a fitted operator on rows whose parts are right more often than not."""
        if not getattr(module, "fitted", False):
            return
        generator = torch.Generator().manual_seed(4)
        labels = torch.arange(40) % self.num_outputs
        truth = functional.one_hot(labels, self.num_outputs).float()
        dtype = next((buffer.dtype for buffer in module.buffers() if buffer.is_floating_point()), torch.float32)
        scores = {
            name: self.part_scores(truth + torch.randn(truth.shape, generator=generator)).to(dtype)
            for name in self.inputs
        }
        present = torch.rand(len(labels), len(self.inputs), generator=generator) < 0.8
        cast(ModelFusion, module).fit(scores, present | ~present.any(1, keepdim=True), self.targets(labels))

    def check_shape(self, module: nn.Module, rows: int) -> None:
        """See `Case`."""
        batch = self.batch(rows)
        fused = module(batch.scores, batch.present, batch.features if self.cls.uses_features else None)
        expect(isinstance(fused, Fused), f"forward should give Fused, found {type(fused).__name__}")
        _expect_rows("scores", fused.scores, (rows, self.num_outputs))
        for name, values in fused.extras.items():
            expect(tuple(values.shape) == (rows,), f"the extra {name} should be ({rows},), found {tuple(values.shape)}")
        _expect_scalars(fused.losses)

    def learning(self, module: nn.Module) -> tuple[nn.Module, Callable[[Batch, Tensor], Tensor]]:
        """See `Case`; the parts are trained by their own losses too, as in a model."""
        heads = nn.ModuleList(nn.Linear(size or 1, self.num_outputs) for size in self.inputs.values())
        operator = cast(ModelFusion, module)

        def loss(batch: Batch, labels: Tensor) -> Tensor:
            assert isinstance(batch, ScoreBatch)
            targets, total, scores = self.targets(labels), torch.zeros(()), {}
            for head, (name, features) in zip(heads, batch.features.items(), strict=True):
                logits = head(features if features.shape[1] else torch.zeros(len(features), 1))
                own = operator.part_loss(logits, targets, 0.5)
                scores[name] = self.part_scores(logits)
                total = total + (self.loss(scores[name], targets) if own is None else own.mean())
            combined = operator(scores, batch.present, batch.features if operator.uses_features else None)
            # The parts' own losses move them, but what is watched is the combination's.
            return self.loss(combined.scores, targets) + 0.1 * (total - total.detach())

        return heads, loss

    @property
    def chance(self) -> float:
        """See `Case`: both outputs are 0 or 1 at random."""
        return 0.25 if self.space == "values" else math.log(2)

    def for_learning(self) -> ScoreCase:
        """See `Case`: with two outputs, as some operators cannot be certain about more."""
        return replace(self, num_outputs=2)

    def loss(self, scores: Tensor, targets: Tensor) -> Tensor:
        """The mean loss of scores (B, K) in the space, as a task's."""
        if self.space == "log_probabilities":
            return functional.cross_entropy(scores, targets)
        if self.space == "log_odds":
            return functional.binary_cross_entropy_with_logits(scores, targets)
        return functional.mse_loss(scores, targets)


def _numbers(shape: tuple[int, ...], generator: torch.Generator, labels: Tensor | None) -> Tensor:
    """Random numbers (B, ..., D); with labels (B,), of two classes that are easily told apart."""
    values = torch.randn(shape, generator=generator)
    if labels is None:
        return values
    pattern = torch.randn(shape[-1], generator=generator).sign()
    return 0.5 * values + (2.0 * labels - 1).view(-1, *[1] * (len(shape) - 1)) * pattern


def _expect_rows(what: str, values: Tensor, shape: tuple[int, ...]) -> None:
    expect(tuple(values.shape) == shape, f"{what} should be {shape}, found {tuple(values.shape)}")
    expect(values.is_floating_point(), f"{what} should be floating point, found {values.dtype}")


def _expect_scalars(losses: Mapping[str, Tensor]) -> None:
    for name, value in losses.items():
        expect(value.dim() == 0, f"the loss {name} should be a scalar, found {tuple(value.shape)}")


def counts(cls: Any, *wanted: int) -> list[int]:
    """Numbers of modalities, each moved into the operator's limits."""
    most = max(cls.min_inputs, MOST) if cls.max_inputs is None else cls.max_inputs
    return sorted({min(max(count, cls.min_inputs, 1), most) for count in wanted})


def fusion_case(subject: Subject, count: int, form: str, names: Sequence[str] = NAMES) -> FusionCase:
    """The case of a number of modalities, of a form (of features) or in a space (of predictions)."""
    sizes = [SIZES[index % len(SIZES)] for index in range(count)]
    named = [names[index] if index < len(names) else f"m{index}" for index in range(count)]
    inputs = dict(zip(named, sizes, strict=True))
    options = subject.all_options
    if subject.level == "model":
        return ScoreCase(subject.cls, inputs, options, cast(Space, form))
    return FeatureCase(subject.cls, inputs, options, cast(Form, form))


def forms(subject: Subject) -> list[str]:
    """What the operator's modalities may give: the spaces of a model-level one, pooled vectors, tokens."""
    if subject.level == "model":
        return sorted(subject.cls.spaces)
    return ["pooled", "tokens", "pooled and tokens"] if subject.cls.takes == "tokens" else ["pooled"]


@provides_cases("fusion", "feature")
@provides_cases("fusion", "model")
def fusion_cases(subject: Subject) -> list[FusionCase]:
    """The least number of modalities and three of them, in every form; a mixture of forms needs two."""
    return [
        fusion_case(subject, count, form)
        for form in forms(subject)
        for count in counts(subject.cls, 1, 3)
        if count > 1 or form != "pooled and tokens"
    ]
