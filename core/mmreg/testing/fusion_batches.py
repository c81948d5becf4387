"""Batches of fusion operators' input, of both levels: modalities' features, and parts' predictions.

Axes: B batch, T tokens, D features, K classes, M modalities.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmreg.contract.signals import Features, Fused
from mmreg.testing.cases import GARBAGE, Batch, Outcome
from mmreg.testing.encoder import outcome_of


class FusionBatch(Batch):
    """A batch of M modalities with (B, M) `present`."""

    present: Tensor

    def __len__(self) -> int:
        return len(self.present)

    @abstractmethod
    def map_each(self, function: Callable[[Tensor, int], Tensor]) -> Self:
        """The batch with every tensor of numbers replaced, by a function of it and its modality's place."""

    @abstractmethod
    def permuted(self, order: Sequence[int]) -> Self:
        """The batch with its modalities in another order."""

    @abstractmethod
    def tensors(self) -> list[tuple[int, Tensor]]:
        """Every tensor of numbers, with its modality's place."""

    @abstractmethod
    def with_present(self, present: Tensor) -> Self:
        """The batch with other rows absent."""

    def map(self, function: Callable[[Tensor], Tensor]) -> Self:
        """See `Batch`."""
        return self.map_each(lambda values, _: function(values))

    def with_garbage(self, garbage: float) -> Self:
        """The batch with what is absent replaced, and all of it tracked by autograd."""

        def fill(values: Tensor, index: int) -> Tensor:
            here = self.present[:, index].view(-1, *[1] * (values.dim() - 1))
            return torch.where(here, values, garbage).detach().requires_grad_()

        return self.map_each(fill)


@dataclass(frozen=True)
class FeatureBatch(FusionBatch):
    """Features of each modality."""

    features: Mapping[str, Features]
    present: Tensor

    def run(self, module: nn.Module) -> Outcome:
        """Fuse the features."""
        return outcome_of(module(self.features, self.present))

    def map_each(self, function: Callable[[Tensor, int], Tensor]) -> Self:
        """See `FusionBatch`."""
        return replace(
            self,
            features={
                name: replace(
                    given,
                    pooled=None if given.pooled is None else function(given.pooled, index),
                    tokens=None if given.tokens is None else function(given.tokens, index),
                )
                for index, (name, given) in enumerate(self.features.items())
            },
        )

    def permuted(self, order: Sequence[int]) -> Self:
        """See `FusionBatch`."""
        names = list(self.features)
        features = {names[k]: self.features[names[k]] for k in order}
        return replace(self, features=features, present=self.present[:, list(order)])

    def tensors(self) -> list[tuple[int, Tensor]]:
        """See `FusionBatch`."""
        return [
            (index, values)
            for index, given in enumerate(self.features.values())
            for values in (given.pooled, given.tokens)
            if values is not None
        ]

    def with_present(self, present: Tensor) -> Self:
        """See `FusionBatch`."""
        return replace(self, present=present)

    def take(self, rows: Sequence[int]) -> Self:
        """See `Batch`."""
        chosen = list(rows)
        taken = self.map(lambda values: values[chosen])
        masked = {
            name: replace(given, mask=None if given.mask is None else given.mask[chosen])
            for name, given in taken.features.items()
        }
        return replace(self, features=masked, present=self.present[chosen])

    def on(self, device: torch.device | str) -> Self:
        """See `Batch`."""
        moved = self.map(lambda values: values.to(device))
        features = {
            name: replace(given, mask=None if given.mask is None else given.mask.to(device))
            for name, given in moved.features.items()
        }
        return replace(self, features=features, present=self.present.to(device))

    def padded(self) -> Self | None:
        """See `Batch`; the tokens that are not valid hold garbage."""
        if all(given.mask is None for given in self.features.values()):
            return None
        longer = {}
        for name, given in self.features.items():
            if given.tokens is None or given.mask is None:
                longer[name] = given
                continue
            tokens = torch.where(given.mask.unsqueeze(-1), given.tokens, GARBAGE)
            longer[name] = Features(
                tokens=functional.pad(tokens, (0, 0, 0, 3), value=GARBAGE), mask=functional.pad(given.mask, (0, 3))
            )
        return replace(self, features=longer)


@dataclass(frozen=True)
class ScoreBatch(FusionBatch):
    """Predictions of each part in the operator's space, and the parts' features."""

    scores: Mapping[str, Tensor]
    features: Mapping[str, Tensor]
    present: Tensor

    def run(self, module: nn.Module) -> Outcome:
        """Combine the predictions."""
        uses_features = getattr(module, "uses_features", False)
        fused: Fused = module(self.scores, self.present, self.features if uses_features else None)
        return Outcome({"scores": fused.scores, **fused.extras}, fused.losses)

    def map_each(self, function: Callable[[Tensor, int], Tensor]) -> Self:
        """See `FusionBatch`."""
        return replace(
            self,
            scores={name: function(values, index) for index, (name, values) in enumerate(self.scores.items())},
            features={name: function(values, index) for index, (name, values) in enumerate(self.features.items())},
        )

    def permuted(self, order: Sequence[int]) -> Self:
        """See `FusionBatch`."""
        names = [list(self.scores)[k] for k in order]
        return replace(
            self,
            scores={name: self.scores[name] for name in names},
            features={name: self.features[name] for name in names},
            present=self.present[:, list(order)],
        )

    def tensors(self) -> list[tuple[int, Tensor]]:
        """See `FusionBatch`."""
        return [*enumerate(self.scores.values()), *enumerate(self.features.values())]

    def with_present(self, present: Tensor) -> Self:
        """See `FusionBatch`."""
        return replace(self, present=present)

    def take(self, rows: Sequence[int]) -> Self:
        """See `Batch`."""
        chosen = list(rows)
        taken = self.map(lambda values: values[chosen])
        return replace(taken, present=self.present[chosen])

    def on(self, device: torch.device | str) -> Self:
        """See `Batch`."""
        moved = self.map(lambda values: values.to(device))
        return replace(moved, present=self.present.to(device))
