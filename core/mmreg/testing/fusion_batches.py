"""Batches of fusion operators' input, of both levels: modalities' features, and parts' predictions.

Axes: B batch, T tokens, D features, K classes, M modalities.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from torch.utils._pytree import register_dataclass, tree_leaves, tree_map

from mmreg.contract.signals import Features, Fused
from mmreg.testing.cases import GARBAGE, CaseBatch, tensors_of
from mmreg.testing.expectations import LOSS, Tensors, expect


@dataclass(frozen=True)
class FusionBatch(CaseBatch):
    """A batch of what M modalities give.

    Attributes:
        inputs: by modality, a pytree of tensors (B, ...).
        present: (B, M) bool.
    """

    inputs: Mapping[str, Any]
    present: Tensor

    def map_numbers(self, function: Callable[[Tensor, int], Tensor]) -> Self:
        """The batch with every tensor of numbers replaced, by a function of it and its modality's place."""

        def mapped(given: Any, index: int) -> Any:
            return tree_map(lambda values: function(values, index) if values.is_floating_point() else values, given)

        inputs = {name: mapped(given, index) for index, (name, given) in enumerate(self.inputs.items())}
        return replace(self, inputs=inputs)

    def numbers(self) -> list[tuple[int, Tensor]]:
        """Every tensor of numbers, with its modality's place."""
        found = [(index, leaf) for index, given in enumerate(self.inputs.values()) for leaf in tree_leaves(given)]
        return [(index, leaf) for index, leaf in found if leaf.is_floating_point()]

    def permuted(self, order: Sequence[int]) -> Self:
        """The batch with its modalities in another order."""
        pairs = list(self.inputs.items())
        return replace(self, inputs=dict(pairs[k] for k in order), present=self.present[:, list(order)])

    def with_gaps(self) -> Self:
        """The batch with some rows that lack one or several modalities, but none that lacks all of them."""
        present = torch.rand(self.present.shape, generator=torch.Generator().manual_seed(8)) < 0.7
        present[: len(present) // 3] = True
        return replace(self, present=present | ~present.any(1, keepdim=True))

    def with_garbage(self, garbage: float) -> Self:
        """The batch with what is absent replaced, and all of it tracked by autograd."""

        def fill(values: Tensor, index: int) -> Tensor:
            here = self.present[:, index].view(-1, *[1] * (values.dim() - 1))
            return torch.where(here, values, garbage).detach().requires_grad_()

        return self.map_numbers(fill)


class FeatureBatch(FusionBatch):
    """Features of each modality."""

    def run(self, module: nn.Module) -> Tensors:
        """Fuse the features."""
        return tensors_of(module(self.inputs, self.present))

    def padded(self) -> Self | None:
        """See `CaseBatch`; the tokens that are not valid hold garbage."""

        def longer(given: Features) -> Features:
            if given.tokens is None or given.mask is None:
                return given
            tokens = torch.where(given.mask.unsqueeze(-1), given.tokens, GARBAGE)
            return Features(tokens=pad(tokens, (0, 0, 0, 3), value=GARBAGE), mask=pad(given.mask, (0, 3)))

        if all(given.mask is None for given in self.inputs.values()):
            return None
        return replace(self, inputs={name: longer(given) for name, given in self.inputs.items()})


class ScoreBatch(FusionBatch):
    """Each part's predictions in the operator's space, and its features."""

    @property
    def scores(self) -> Tensors:
        """The predictions (B, K) by part."""
        return {name: scores for name, (scores, _) in self.inputs.items()}

    @property
    def features(self) -> Tensors:
        """The features (B, D) by part."""
        return {name: features for name, (_, features) in self.inputs.items()}

    def run(self, module: nn.Module) -> Tensors:
        """Combine the predictions."""
        uses_features = getattr(module, "uses_features", False)
        fused: Fused = module(self.scores, self.present, self.features if uses_features else None)
        expect(isinstance(fused, Fused), f"forward should give Fused, found {type(fused).__name__}")
        losses = {f"{LOSS}{name}": value for name, value in fused.losses.items()}
        return {"scores": fused.scores, **fused.extras, **losses}


for _cls in (FeatureBatch, ScoreBatch):
    register_dataclass(_cls)
