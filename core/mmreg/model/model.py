"""Encoders, fusion and heads as one module, which encodes only the rows that are there.

Axes: B batch, T tokens, D features, K classes, M modalities.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from mmreg.contract.interfaces import Encoder, FeatureFusion, ModelFusion, Outputs, Task
from mmreg.contract.signals import Features, Signal
from mmreg.layers import at_least_float32
from mmreg.model.seeding import reseed


class Inputs(Protocol):
    """What the model needs of a batch; `mmreg.data.batches.Batch` is one."""

    @property
    def signals(self) -> Mapping[str, Signal]:
        """Each modality's signal, of the rows that have it alone; a modality that no row has is left out."""

    @property
    def rows(self) -> Mapping[str, Tensor | None]:
        """The positions (n,) int64 in the batch of each signal's rows; None where every row has it."""

    @property
    def present(self) -> Tensor:
        """(B, M) bool, which row has which modality, in the model's order."""


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


@dataclass(frozen=True)
class Output:
    """What the model gives for a batch.

    Attributes:
        scores: (B, K) the prediction in the task's space.
        present: (B,) bool, the rows that have any modality; the others got the training prior.
        supervised: everything that training computes a loss on.
        parts: the prediction of each part of the model-level operators, by name.
        losses: extra terms, already weighted, by the component that adds them and the name that it gives them.
        extras: named values (B,) that go into the predictions; those of an operator below the top one have its name
            before theirs.
    """

    scores: Tensor
    present: Tensor
    supervised: Sequence[Supervised] = ()
    parts: Mapping[str, Part] = field(default_factory=dict)
    losses: Mapping[tuple[str, str], Tensor] = field(default_factory=dict)
    extras: Mapping[str, Tensor] = field(default_factory=dict)


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
class _Branch:
    """What a modality or an operator hands to the operator above it: features, or scores of a model-level fusion."""

    present: Tensor
    features: Features | None = None
    scores: Tensor | None = None


@dataclass
class _Pass:
    """One batch on its way through the tree, and what the operators add on the way."""

    leaves: Mapping[str, _Branch]
    task: Task
    seed: int | None
    supervised: list[Supervised] = field(default_factory=list)
    parts: dict[str, Part] = field(default_factory=dict)
    losses: dict[tuple[str, str], Tensor] = field(default_factory=dict)
    extras: dict[str, Mapping[str, Tensor]] = field(default_factory=dict)  # by operator

    def reseed(self, name: str) -> None:
        """Key the random draws of the next component to its name, so that no other component's shift them."""
        if self.seed is not None:
            reseed(self.seed, name)


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

    def branches(self, batch: _Pass) -> dict[str, _Branch]:
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

    def run(self, batch: _Pass) -> _Branch:
        """Fuse a batch."""
        raise AssertionError("a node is of one level or the other")


class FeatureNode(FusionNode):
    """A feature-level operator and what it fuses; see `FusionNode`.

    Args:
        name: as there.
        parts: as there.
        fusion: the operator.
    """

    def __init__(self, name: str, parts: Sequence[str | FusionNode], fusion: FeatureFusion) -> None:
        super().__init__(name, parts)
        self.fusion = fusion

    def run(self, batch: _Pass) -> _Branch:
        """Fuse a batch; the scores of a model-level part are taken for its features."""
        branches = self.branches(batch)
        present = torch.stack([branch.present for branch in branches.values()], 1)
        features = {name: branch.features or Features(pooled=branch.scores) for name, branch in branches.items()}
        batch.reseed(self.name)
        fused: Features = self.fusion(features, present)
        batch.losses.update({(self.name, key): loss for key, loss in fused.losses.items()})
        return _Branch(present.any(1), features=fused)


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

    def run(self, batch: _Pass) -> _Branch:
        """Predict with every part, and combine the predictions."""
        branches = self.branches(batch)
        present = torch.stack([branch.present for branch in branches.values()], 1)
        scores, features = {}, {}
        for name, branch in branches.items():
            logits = branch.scores
            if branch.features is not None:
                logits = features[name] = cast(Tensor, branch.features.pooled)
            if name in self.heads:
                logits = self.heads[name](logits)
            assert logits is not None
            logits = at_least_float32(logits)
            own = self.fusion.part_scores(logits)
            scores[name] = batch.task.scores(logits) if own is None else own
            batch.parts[name] = Part(scores[name], branch.present)
            if self.own_losses[name] or self.blended:  # a blended weight of zero may grow again
                batch.supervised.append(Supervised(name, logits, branch.present, self.own_losses[name], self.fusion))
        if not self.joint_loss:
            scores = {name: part.detach() for name, part in scores.items()}
            features = {name: part.detach() for name, part in features.items()}
        batch.reseed(self.name)
        fused = self.fusion(scores, present, features if self.fusion.uses_features else None)
        batch.losses.update({(self.name, key): loss for key, loss in fused.losses.items()})
        batch.extras[self.name] = fused.extras
        weight = self.joint_loss or float(self.trains_fusion)
        if weight or self.name in self.blended:
            batch.supervised.append(Supervised(self.name, fused.scores, present.any(1), weight))
        return _Branch(present.any(1), scores=fused.scores)

    def learns_from(self, part: str) -> bool:
        """Whether training fits the operator, or a head, to what a part gives."""
        return self.trains_fusion or part in self.heads

    def fit_notes(self, targets: Tensor, num_outputs: int) -> list[str]:
        """What a person should know of an operator that was fitted on held-out rows with these targets."""
        notes = [
            f"{self.name} was fitted on the {len(targets):,} validation rows: figures of these flatter it, those of "
            "test rows do not"
        ]
        seen = len(set(targets.flatten().tolist()))
        if not targets.is_floating_point() and targets.dim() == 1 and seen < num_outputs:
            unseen = f"{num_outputs - seen} of {num_outputs}"
            notes.append(f"{self.name} learned nothing of classes that no validation row has: {unseen}")
        return notes


class MultimodalModel(nn.Module):
    """Encoders, fusion and heads.

    Args:
        encoders: one a modality, in the order of the columns of `present`.
        outputs: what each encoder was built to give.
        root: the top operator; None for a single modality.
        head: the layer that makes logits of the top operator's (or the single encoder's) features; None if the top
            operator combines predictions.
        task: what is predicted.
        prior: (K,) the scores of a row that has no modality.
    """

    prior: Tensor

    def __init__(
        self,
        encoders: Mapping[str, Encoder],
        outputs: Mapping[str, Outputs],
        root: FusionNode | None,
        head: nn.Module | None,
        task: Task,
        prior: Tensor,
    ) -> None:
        super().__init__()
        self.modalities = list(encoders)
        self.outputs = dict(outputs)
        self.encoders = Named(encoders)
        self.root = root
        self.head = head
        self.task = task
        self.register_buffer("prior", prior)

    def forward(self, inputs: Inputs, seed: int | None = None) -> Output:
        """Predict a batch.

        Args:
            inputs: signals as the modalities' `transform` gives them, with the rows that they belong to.
            seed: in training, what the step's random draws are keyed by; None to leave them to torch's global state.

        Returns:
            Scores, and all that training needs besides.
        """
        batch = _Pass({}, self.task, seed)
        batch.leaves = {
            name: _Branch(inputs.present[:, index], self._encode(name, inputs, batch))
            for index, name in enumerate(self.modalities)
        }
        branch = next(iter(batch.leaves.values())) if self.root is None else self.root.run(batch)
        scores = branch.scores
        if self.head is not None:
            assert branch.features is not None
            scores = at_least_float32(self.head(branch.features.pooled))
            batch.supervised.append(Supervised("", scores, branch.present, 1.0))
        assert scores is not None
        scores = self.task.scores(scores)
        scores = torch.where(branch.present[:, None], scores, self.prior.to(scores.dtype))
        extras: dict[str, Tensor] = {}
        for name, found in batch.extras.items():
            top = self.root is not None and name == self.root.name
            extras |= {key if top else f"{name}_{key}": value for key, value in found.items()}
        return Output(scores, branch.present, tuple(batch.supervised), batch.parts, batch.losses, extras)

    def _encode(self, name: str, inputs: Inputs, batch: _Pass) -> Features:
        """One modality's features for all B rows: encoded where it is present, zeros elsewhere."""
        encoder = self.encoders[name]
        assert isinstance(encoder, Encoder)
        size = len(inputs.present)
        signal = inputs.signals.get(name)
        if signal is None:
            return self._absent(name, encoder, size)
        batch.reseed(name)
        features: Features = encoder(signal)
        batch.losses.update({(name, key): loss for key, loss in features.losses.items()})
        rows = inputs.rows[name]
        if rows is None:
            return features
        pooled = None if features.pooled is None else _scatter(features.pooled, rows, size)
        if features.tokens is None:
            return Features(pooled=pooled)
        valid = features.mask
        if valid is None:
            valid = torch.ones(features.tokens.shape[:2], dtype=torch.bool, device=features.tokens.device)
        return Features(pooled, _scatter(features.tokens, rows, size), _scatter(valid, rows, size))

    def _absent(self, name: str, encoder: Encoder, size: int) -> Features:
        """Zeros for a modality that no row has; in training its parameters get zero gradients, not none.

        With none, Adam's state would depend on how rows fall into batches, and processes that train together would
        wait for each other.
        """
        zero = self.prior.new_zeros(())
        if self.training:
            zero = zero + sum(parameter.sum() * 0 for parameter in encoder.parameters() if parameter.requires_grad)
        if self.outputs[name] == "tokens":
            tokens = zero.expand(size, 1, encoder.out_features)
            return Features(tokens=tokens, mask=torch.zeros(size, 1, dtype=torch.bool, device=tokens.device))
        return Features(pooled=zero.expand(size, encoder.out_features))


def _scatter(values: Tensor, rows: Tensor, size: int) -> Tensor:
    """(n, ...) at the given rows of (size, ...), zeros elsewhere."""
    return values.new_zeros(size, *values.shape[1:]).index_copy(0, rows, values)
