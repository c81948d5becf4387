"""The fusion tree: operators with what they fuse, and what they add on a batch's way through.

Axes: B batch, D features, K classes, M modalities.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import cast

import torch
from torch import Tensor, nn

from mmreg.contract.fusion import FeatureFusion, ModelFusion
from mmreg.contract.signals import Features
from mmreg.contract.task import Task
from mmreg.layers import at_least_float32, masked_mean
from mmreg.model.seeding import Draws
from mmreg.regions import region


@dataclass(frozen=True)
class Supervised:
    """Scores that training computes a loss on.

    Attributes:
        name: whose they are: a part's name, an operator's, or "" for the whole model.
        logits: (B, K).
        present: (B,) bool, the rows that they are for.
        weight: the weight of their loss.
        fusion: the model-level operator whose part this is, which may bring a loss of its own; None otherwise.
    """

    name: str
    logits: Tensor
    present: Tensor
    weight: float
    fusion: ModelFusion | None = None


@dataclass(frozen=True)
class Part:
    """The prediction of one part of a model-level fusion: scores (B, K), for the rows (B,) that have it."""

    scores: Tensor
    present: Tensor


class Named(nn.Module):
    """Modules by name, like `torch.nn.ModuleDict`, but with any name, such as "values" or "type"."""

    def __init__(self, modules: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self._modules.update(modules)

    def __getitem__(self, name: str) -> nn.Module:
        module = self._modules[name]
        assert module is not None
        return module

    def __contains__(self, name: str) -> bool:
        return name in self._modules


@dataclass(frozen=True)
class Branch:
    """What a modality or an operator hands to the operator above it: features, or scores of a model-level fusion."""

    present: Tensor
    features: Features | None = None
    scores: Tensor | None = None


def vector_of(branch: Branch) -> Tensor:
    """One vector (B, D) a row of what has features; of tokens their mean."""
    features = branch.features
    assert features is not None
    if features.pooled is not None:
        return at_least_float32(features.pooled)
    assert features.tokens is not None
    return at_least_float32(masked_mean(features.tokens, features.mask))


@dataclass
class Pass:
    """One batch on its way through the tree, and what the operators add on the way."""

    leaves: Mapping[str, Branch]
    task: Task
    draws: Draws | None
    supervised: list[Supervised] = field(default_factory=list)
    parts: dict[str, Part] = field(default_factory=dict)
    losses: dict[tuple[str, str], Tensor] = field(default_factory=dict)
    extras: dict[str, Mapping[str, Tensor]] = field(default_factory=dict)  # by operator

    def reseed(self, name: str) -> None:
        """Key the random draws of the next component to its name, so that no other component's shift them."""
        if self.draws is not None:
            self.draws.reseed(name)


class FusionNode(nn.Module):
    """An operator and what it fuses.

    Args:
        name: the operator's name in this model.
        parts: in order, names of modalities or nodes.
    """

    def __init__(self, name: str, parts: Sequence[str | FusionNode]) -> None:
        super().__init__()
        self.name = name
        self.part_names = [part if isinstance(part, str) else part.name for part in parts]
        self.nodes = Named({part.name: part for part in parts if isinstance(part, FusionNode)})

    def branches(self, batch: Pass) -> dict[str, Branch]:
        """What each part gives for a batch."""
        found = {}
        for name in self.part_names:
            found[name] = batch.leaves[name] if name in batch.leaves else self.node(name).run(batch)
        return found

    def node(self, name: str) -> FusionNode:
        """The part with this name, if it is an operator."""
        node = self.nodes[name]
        assert isinstance(node, FusionNode)
        return node

    def learns_from(self, part: str) -> bool:
        """Whether training fits layers, here or above, to what a part gives."""
        return True

    def run(self, batch: Pass) -> Branch:
        """Fuse a batch."""
        raise AssertionError("a node is of one level or the other")


class FeatureNode(FusionNode):
    """A feature-level operator and what it fuses; see `FusionNode`.

    Args:
        name: as there.
        parts: as there.
        fusion: the operator.
        absent: the size of each part's features, where features are learned that stand for an absent part.
    """

    def __init__(
        self, name: str, parts: Sequence[str | FusionNode], fusion: FeatureFusion, absent: Sequence[int] = ()
    ) -> None:
        super().__init__(name, parts)
        self.fusion = fusion
        self.absent = nn.ParameterList(nn.Parameter(torch.zeros(size)) for size in absent)

    def run(self, batch: Pass) -> Branch:
        """Fuse a batch; the scores of a model-level part are taken for its features."""
        branches = self.branches(batch)
        present = torch.stack([branch.present for branch in branches.values()], 1)
        features = {name: branch.features or Features(pooled=branch.scores) for name, branch in branches.items()}
        told = present
        if len(self.absent):
            filled = zip(features.items(), self.absent, present.unbind(1), strict=True)
            features = {name: with_absent(given, token, there) for (name, given), token, there in filled}
            told = present.any(1, keepdim=True).expand_as(present)
        batch.reseed(self.name)
        with region("fusion", self.name):
            fused: Features = self.fusion(features, told)
        batch.losses.update({(self.name, key): loss for key, loss in fused.losses.items()})
        return Branch(present.any(1), features=fused)


def with_absent(features: Features, token: Tensor, present: Tensor) -> Features:
    """Features with a vector (D,) in the place of those of the rows (B,) that are not present: their only token."""
    pooled, tokens, mask = features.pooled, features.tokens, features.mask
    if pooled is not None:
        pooled = torch.where(present[:, None], pooled, token.to(pooled.dtype))
    if tokens is not None:
        tokens = torch.where(present[:, None, None], tokens, token.to(tokens.dtype))
        first = torch.arange(tokens.shape[1], device=tokens.device) == 0
        mask = torch.where(present[:, None], torch.ones_like(first) if mask is None else mask, first)
    return replace(features, pooled=pooled, tokens=tokens, mask=mask)


class ModelNode(FusionNode):
    """A model-level operator, the models that it combines, and how they are trained; see `FusionNode`.

    Args:
        name: as there.
        parts: as there.
        fusion: the operator.
        heads: for each part that gives features (or, to an operator that combines evidence, scores), the layer that
            makes its logits.
        own_losses: the weight of each part's own loss.
        joint_loss: the weight of the combination's loss for the parts. Without it the operator sees detached
            predictions, so that the loss of the combination trains its own parameters alone.
        gradient_blending: whether training sets these weights anew as it sees how much each part overfits.
    """

    def __init__(
        self,
        name: str,
        parts: Sequence[str | FusionNode],
        fusion: ModelFusion,
        heads: Mapping[str, nn.Module],
        own_losses: Mapping[str, float],
        joint_loss: float,
        gradient_blending: bool = False,
    ) -> None:
        super().__init__(name, parts)
        self.fusion = fusion
        self.heads = Named(heads)
        self.own_losses = dict(own_losses)
        self.joint_loss = joint_loss
        self.blended = [*own_losses, *([name] if joint_loss else [])] if gradient_blending else []
        self.trains_fusion = any(parameter.requires_grad for parameter in fusion.parameters())

    def run(self, batch: Pass) -> Branch:
        """Predict with every part, and combine the predictions."""
        branches = self.branches(batch)
        present = torch.stack([branch.present for branch in branches.values()], 1)
        scores, features = {}, {}
        for name, branch in branches.items():
            logits = branch.scores
            if branch.features is not None:
                logits = features[name] = cast(Tensor, branch.features.pooled)
            if name in self.heads:
                with region("head"):
                    logits = self.heads[name](logits)
            assert logits is not None
            logits = at_least_float32(logits)
            own = self.fusion.part_scores(logits)
            scores[name] = batch.task.scores(logits) if own is None else own
            batch.parts[name] = Part(scores[name], branch.present)
            if self.own_losses[name] or self.blended:  # a blended weight of zero may grow again
                batch.supervised.append(Supervised(name, logits, branch.present, self.own_losses[name], self.fusion))
        if self.training and not self.joint_loss:
            scores = {name: part.detach() for name, part in scores.items()}
            features = {name: part.detach() for name, part in features.items()}
        batch.reseed(self.name)
        with region("fusion", self.name):
            fused = self.fusion(scores, present, features if self.fusion.uses_features else None)
        batch.losses.update({(self.name, key): loss for key, loss in fused.losses.items()})
        batch.extras[self.name] = fused.extras
        weight = self.joint_loss or float(self.trains_fusion)
        if weight or self.name in self.blended:
            batch.supervised.append(Supervised(self.name, fused.scores, present.any(1), weight))
        return Branch(present.any(1), scores=fused.scores)

    def learns_from(self, part: str) -> bool:
        """Whether training fits the operator, or a head, to what a part gives."""
        return self.trains_fusion or part in self.heads

    def fit_notes(self, targets: Tensor, task: Task) -> list[str]:
        """What a person should know of an operator that was fitted on held-out rows with these targets of a task."""
        notes = [
            f"{self.name} was fitted on the {len(targets):,} validation rows: figures of these flatter it, those of "
            "test rows do not"
        ]
        for name, target in task.targets().items():
            of = f" of {name!r}" if name else ""
            own = target.own(targets)
            if not len(own):
                notes.append(f"{self.name} was not fitted for {name!r}, which no validation row has")
                continue
            seen, count = len(set(own.flatten().tolist())), target.task.num_outputs
            if not own.is_floating_point() and own.dim() == 1 and seen < count:
                unseen = f"{count - seen} of {count}"
                notes.append(f"{self.name} learned nothing of classes{of} that no validation row has: {unseen}")
        return notes
