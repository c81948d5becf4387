"""Fusion operators of both levels, with the batches that they are tested with.

Axes: B batch, T tokens, D features, K classes, M modalities.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import cycle
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmreg.contract.fusion import ModelFusion
from mmreg.contract.signals import Features
from mmreg.testing.cases import CASES, Case, CaseBatch, out_features
from mmreg.testing.expectations import LOSS, expect_shapes
from mmreg.testing.fusion_batches import FeatureBatch, FusionBatch, ScoreBatch
from mmreg.testing.registration import FUSIONS
from mmreg.testing.signals import make_numbers
from mmreg.testing.subject import Subject

NAMES = ("image", "text", "audio", "depth", "motion")
SIZES = (6, 5, 2, 4, 8)
"""D of each modality, never K."""
LENGTHS = (4, 1, 3, 2, 5)
"""T of each modality's longest row."""
MOST = 5
"""The number of modalities up to which an operator that takes any number is tested."""
NUM_OUTPUTS = 3
"""K of a model-level operator."""


@dataclass(frozen=True)
class FusionCase(Case):
    """An operator for some modalities.

    Attributes:
        cls: its class.
        inputs: name and size of each modality.
        options: its options.
        form: what the modalities give: pooled vectors, tokens, or both in turn; of predictions, their space.
    """

    cls: Any
    inputs: Mapping[str, int]
    options: Mapping[str, Any]
    form: str

    @property
    def label(self) -> str:
        """The number of modalities, and what they give."""
        return f"with {len(self.inputs)} {'modality' if len(self.inputs) == 1 else 'modalities'} ({self.form})"

    @property
    def has_nothing_to_weigh(self) -> bool:
        """See `Case`."""
        return len(self.inputs) == 1

    @abstractmethod
    def batch(self, rows: int = 6, *, seed: int = 1, labels: Tensor | None = None) -> FusionBatch:
        """See `Case`."""

    def varied(self, rows: int) -> FusionBatch:
        """See `Case`: half of the rows have everything, each of the others lacks one modality."""
        present = torch.ones(rows, len(self.inputs), dtype=torch.bool)
        lacking = torch.arange(rows // 2)
        present[lacking, lacking % len(self.inputs)] = False
        return replace(self.batch(rows), present=present)

    def permuted(self, order: Sequence[int]) -> FusionCase:
        """The case with its modalities in another order."""
        pairs = list(self.inputs.items())
        return replace(self, inputs=dict(pairs[k] for k in order))


@dataclass(frozen=True)
class FeatureCase(FusionCase):
    """A feature-level operator for modalities of one form."""

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
                features[name] = Features(pooled=make_numbers((rows, size), generator, labels))
                continue
            longest = LENGTHS[index % len(LENGTHS)]
            lengths = torch.randint(1, longest + 1, (rows,), generator=generator)
            mask = None if index == 2 else torch.arange(longest)[None] < lengths[:, None]
            features[name] = Features(tokens=make_numbers((rows, longest, size), generator, labels), mask=mask)
        return FeatureBatch(features, torch.ones(rows, len(self.inputs), dtype=torch.bool))

    def check_shape(self, module: nn.Module, rows: int) -> None:
        """See `Case`."""
        expect_shapes(self.batch(rows).run(module), {"pooled": (rows, out_features(module))})


@dataclass(frozen=True)
class ScoreCase(FusionCase):
    """A model-level operator in one space."""

    num_outputs: int = NUM_OUTPUTS

    def build(self) -> nn.Module:
        """See `Case`."""
        passed_in = {"num_outputs": self.num_outputs, "space": self.form}
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
            return logits.log_softmax(-1) if self.form == "log_probabilities" else logits
        return own

    def batch(self, rows: int = 6, *, seed: int = 1, labels: Tensor | None = None) -> ScoreBatch:
        """See `Case`; parts are right more often than not about `truth`."""
        generator = torch.Generator().manual_seed(seed)
        inputs = {}
        for name, size in self.inputs.items():
            noise = torch.randn(rows, self.num_outputs, generator=generator)
            scores = self.part_scores(2 * (functional.one_hot(self.truth(rows), self.num_outputs) + noise))
            inputs[name] = scores, make_numbers((rows, size), generator, labels)
        return ScoreBatch(inputs, torch.ones(rows, len(self.inputs), dtype=torch.bool))

    def truth(self, rows: int) -> Tensor:
        """(B,) class numbers."""
        return torch.arange(rows) % self.num_outputs

    def targets(self, labels: Tensor) -> Tensor:
        """Class numbers (B,) as the task would encode them."""
        if self.form == "log_probabilities":
            return labels
        return functional.one_hot(labels, self.num_outputs).float()

    def fit(self, module: nn.Module, batch: FusionBatch | None = None) -> None:
        """See `Case`; on a batch (none: one in which some rows lack some parts), if it is a fitted operator."""
        if self.cls.fitted:
            batch = batch or self.batch(40, seed=4).with_gaps()
            assert isinstance(batch, ScoreBatch)
            cast(ModelFusion, module).fit(batch.scores, batch.present, self.targets(self.truth(len(batch.present))))

    def check_shape(self, module: nn.Module, rows: int) -> None:
        """See `Case`."""
        found = self.batch(rows).run(module)
        extras = {name: (rows,) for name in found if not name.startswith(LOSS)}
        expect_shapes(found, {**extras, "scores": (rows, self.num_outputs)})

    def learning(self, module: nn.Module) -> tuple[nn.Module, Callable[[CaseBatch, Tensor], Tensor], float]:
        """See `Case`; the parts are trained by their own losses too, as in a model."""
        heads = nn.ModuleList(nn.Linear(size or 1, self.num_outputs) for size in self.inputs.values())
        operator = cast(ModelFusion, module)

        def loss(batch: CaseBatch, labels: Tensor) -> Tensor:
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

        # By chance both outputs are 0 or 1.
        return heads, loss, math.log(2) if self.form in ("log_probabilities", "log_odds") else 0.25

    def for_learning(self) -> ScoreCase:
        """See `Case`: with two outputs, as some operators cannot be certain about more."""
        return replace(self, num_outputs=2)

    def loss(self, scores: Tensor, targets: Tensor) -> Tensor:
        """The mean loss of scores (B, K) in the space, as a task's."""
        if self.form == "log_probabilities":
            return functional.cross_entropy(scores, targets)
        if self.form == "log_odds":
            return functional.binary_cross_entropy_with_logits(scores, targets)
        return functional.mse_loss(scores, targets)


def counts(cls: Any, *wanted: int) -> list[int]:
    """Numbers of modalities, each moved into the operator's limits."""
    most = max(cls.min_inputs, MOST) if cls.max_inputs is None else cls.max_inputs
    return sorted({min(max(count, cls.min_inputs, 1), most) for count in wanted})


def fusion_case(subject: Subject, count: int, form: str, names: Sequence[str] = NAMES) -> FusionCase:
    """The case of a number of modalities, of a form (of features) or in a space (of predictions)."""
    named = [*names, *(f"m{index}" for index in range(len(names), count))][:count]
    inputs = dict(zip(named, cycle(SIZES), strict=False))
    cls = ScoreCase if subject.level == "model" else FeatureCase
    return cls(subject.cls, inputs, subject.all_options, form)


def forms(subject: Subject) -> list[str]:
    """What the operator's modalities may give: the spaces of a model-level one, pooled vectors, tokens."""
    if subject.level == "model":
        return sorted(subject.cls.spaces)
    return ["pooled", "tokens", "pooled and tokens"] if subject.cls.takes == "tokens" else ["pooled"]


def fusion_cases(subject: Subject) -> list[FusionCase]:
    """The least number of modalities and three of them, in every form; a mixture of forms needs two."""
    return [
        fusion_case(subject, count, form)
        for form in forms(subject)
        for count in counts(subject.cls, 1, 3)
        if count > 1 or form != "pooled and tokens"
    ]


CASES |= dict.fromkeys(FUSIONS, fusion_cases)
