"""The modalities that a balance acts on, and what it adds to a batch on its way through the model.

Axes: B batch, D features, K classes, M modalities.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from mmreg.contract.balance import Balance
from mmreg.contract.signals import Features
from mmreg.contract.task import Task
from mmreg.layers import at_least_float32
from mmreg.model.nodes import Branch, FeatureNode, Part, Pass, Supervised, vector_of
from mmreg.regions import region

KEEP = "balance/keep"
"""What the draws of rows that do without a modality are keyed by; no input or operator has such a name."""
ALONE = "balance/alone"
"""What an operator's draws are keyed by where it is given one modality alone."""


@dataclass(frozen=True)
class BalancedPass:
    """What a balance needs of a batch that went through the model; the fields are those of `BalanceBatch`.

    Attributes:
        supervised: the modalities' own logits, as far as they have a loss.
        leaves: what the encoders gave.
    """

    vectors: Mapping[str, Tensor]
    logits: Mapping[str, Tensor]
    present: Tensor
    supervised: tuple[Supervised, ...]
    leaves: Mapping[str, Branch]


@dataclass(frozen=True)
class BalancedHead:
    """The modalities that reach one head through feature-level fusion, and what lies between.

    Attributes:
        names: of the modalities, in the recipe's order.
        node: the operator below the head.
        head: what makes logits of its features.
    """

    names: tuple[str, ...]
    node: FeatureNode
    head: nn.Linear

    def enter(self, balance: Balance, batch: Pass, training: bool, weights: Mapping[str, float]) -> BalancedPass:
        """Let each modality say what it has to say by itself, and in training leave some out.

        Args:
            balance: of these modalities.
            batch: on its way.
            training: whether this is a step of a training.
            weights: of some modalities' own losses, by which these are multiplied.
        """
        leaves = dict(batch.leaves)
        vectors = {name: vector_of(leaves[name]) for name in self.names}
        present = torch.stack([leaves[name].present for name in self.names], 1)
        with region("balance"):
            if balance.shares_head:
                batch.reseed(ALONE)
                given = balance.shared_logits(
                    {name: self._alone(name, batch) for name in self.names}, present, self.head
                )
            else:
                given = balance.own_logits(vectors)
            logits = {name: at_least_float32(each) for name, each in given.items()}
        supervised = tuple(
            Supervised(name, each, leaves[name].present, balance.own_loss * weights.get(name, 1.0))
            for name, each in logits.items()
            if balance.own_loss
        )
        batch.supervised += supervised
        batch.parts |= {name: Part(batch.task.scores(each), leaves[name].present) for name, each in logits.items()}
        if training:
            batch.reseed(KEEP)
            batch.leaves = self._only(leaves, balance.keep(present), balance.detaches)
        return BalancedPass(vectors, logits, present, supervised, leaves)

    @torch.no_grad()
    def joint(self, seen: BalancedPass, kept: Tensor, task: Task, prior: Tensor) -> Tensor:
        """The head's scores (B, K) of a batch that was seen, with some modalities (B, M) of each row alone."""
        left = Pass(self._only(seen.leaves, kept & seen.present), task, None)
        with _in_use(self.node), _in_use(self.head):
            branch = self.node.run(left)
            assert branch.features is not None
            scores = task.scores(at_least_float32(self.head(branch.features.pooled)))
        return torch.where(branch.present[:, None], scores, prior.to(scores.dtype))

    def _only(self, leaves: Mapping[str, Branch], kept: Tensor, detaches: bool = False) -> dict[str, Branch]:
        own = {name: replace(leaves[name], present=kept[:, column]) for column, name in enumerate(self.names)}
        if detaches:
            own = {name: replace(leaf, features=_detached(leaf.features)) for name, leaf in own.items()}
        return {**leaves, **own}

    def _alone(self, name: str, batch: Pass) -> Tensor:
        """What the operator makes (B, H) of one modality alone; what it adds on the way is left out."""
        leaves = {
            other: leaf if other == name else replace(leaf, present=torch.zeros_like(leaf.present))
            for other, leaf in batch.leaves.items()
        }
        features = self.node.run(Pass(leaves, batch.task, None)).features
        assert features is not None
        assert features.pooled is not None
        return features.pooled


def _detached(features: Features | None) -> Features:
    assert features is not None
    pooled, tokens = features.pooled, features.tokens
    pooled = None if pooled is None else pooled.detach()
    return replace(features, pooled=pooled, tokens=None if tokens is None else tokens.detach())


@contextmanager
def _in_use(module: nn.Module) -> Iterator[None]:
    """A module that computes as in use: without dropout, and without taking in a batch's statistics."""
    training = [each for each in module.modules() if each.training]
    for each in training:
        each.training = False
    try:
        yield
    finally:
        for each in training:
            each.training = True
