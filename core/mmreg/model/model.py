"""Encoders, fusion and heads as one module, which encodes only the rows that are there.

Axes: B batch, T tokens, D features, K classes, M modalities.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from mmreg.contract.balance import Balance
from mmreg.contract.fusion import FeatureFusion, ModelFusion
from mmreg.contract.interfaces import Encoder, Outputs
from mmreg.contract.signals import Features, Signal
from mmreg.contract.task import Task
from mmreg.data.segments import Segments
from mmreg.layers import at_least_float32, own_share
from mmreg.model.balanced import BalancedHead, BalancedPass
from mmreg.model.nodes import Branch, FeatureNode, FusionNode, ModelNode, Named, Part, Pass, Supervised, vector_of
from mmreg.model.pooling import ValuePooling, encoded_in_parts
from mmreg.model.seeding import Draws
from mmreg.regions import region


class Inputs(Protocol):
    """What the model needs of a batch; `mmreg.data.batches.Batch` is one."""

    @property
    def signals(self) -> Mapping[str, Signal]:
        """Each modality's signal, of the rows that have it alone; a modality that no row has is left out."""

    @property
    def features(self) -> Mapping[str, Features]:
        """Instead of some signals what their encoders give for them, computed before."""

    @property
    def rows(self) -> Mapping[str, Tensor | None]:
        """The positions (n,) int64 in the batch of each modality's rows; None where every row has it."""

    @property
    def segments(self) -> Mapping[str, Segments]:
        """Which values are whose, of each modality of which a row has any number of values."""

    @property
    def present(self) -> Tensor:
        """(B, M) bool, which row has which modality, in the model's order."""


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
        balanced: what a balance needs of the batch; None without one.
    """

    scores: Tensor
    present: Tensor
    supervised: Sequence[Supervised] = ()
    parts: Mapping[str, Part] = field(default_factory=dict)
    losses: Mapping[tuple[str, str], Tensor] = field(default_factory=dict)
    extras: Mapping[str, Tensor] = field(default_factory=dict)
    balanced: BalancedPass | None = None


@dataclass(frozen=True)
class Vectors:
    """What the model makes of the rows of a batch, as vectors.

    Attributes:
        fused: (B, D) what the head reads: the top operator's features, or a single encoder's. Of a model-level operator
            its scores (B, K); of a task that learns unit vectors of the inputs, their sum brought to length one.
        inputs: by name (B, D) what an encoder gives, of tokens their mean; of such a task, its unit vectors.
        present: (B, M) bool, which row has which input, in the model's order; vectors of the others mean nothing.
    """

    fused: Tensor
    inputs: Mapping[str, Tensor]
    present: Tensor


class MultimodalModel(nn.Module):
    """Encoders, fusion and heads.

    Args:
        encoders: one a modality, less those that share one.
        outputs: what each modality's encoder was built to give, in the order of the columns of `present`.
        root: the top operator; None for a single modality, or a task without a target.
        head: the layer that makes logits of the top operator's (or the single encoder's) features; None if the top
            operator combines predictions; of a task without a target, its own.
        task: what is predicted.
        prior: (K,) the scores of a row that has no modality.
        shares: the inputs without an encoder of their own, each with the input whose encoder it uses.
        balance: how the modalities below one of the heads are trained; None for by its loss alone.
        balanced: these modalities, and that head.
        pooling: for each input of which a row has any number of values, what makes one of their features.

    Attributes:
        blended: the weights by which a balance that blends losses has multiplied that of each modality, and under the
            operator's name the fused one; those that are not there are 1.
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
        shares: Mapping[str, str] | None = None,
        balance: Balance | None = None,
        balanced: BalancedHead | None = None,
        pooling: Mapping[str, ValuePooling] | None = None,
    ) -> None:
        super().__init__()
        self.modalities = list(outputs)
        self.shares = dict(shares or {})
        self.outputs = dict(outputs)
        self.encoders = Named(encoders)
        self.pooling = Named(pooling or {})
        self.root = root
        self.head = head
        self.task = task
        self.task_module = task.module  # what a task learns is part of the model: trained, moved and saved with it
        self.register_buffer("prior", prior)
        self.balance, self.balanced = balance, balanced
        self.blended: Mapping[str, float] = {}
        self._compiled: dict[str, Callable[[Signal], Features]] = {}

    def compile_encoders(self, wanted: bool = True) -> None:
        """Let training run encoders that are compiled when first called; their draws stay what they are.

        Args:
            wanted: whether to; otherwise let it run them as they are again.
        """
        names = [name for name in self.modalities if name not in self.shares and wanted]
        self._compiled = {
            name: torch.compile(self.encoder_of(name), options={"fallback_random": True}) for name in names
        }

    def encoder_of(self, name: str) -> Encoder:
        """A modality's encoder, its own or the one that it shares."""
        encoder = self.encoders[self.shares.get(name, name)]
        assert isinstance(encoder, Encoder)
        return encoder

    def parts(self) -> list[str]:
        """The names of all that may have a loss or figures of its own: modalities and operators."""
        return [*self.modalities, *(node.name for node in self.modules() if isinstance(node, FusionNode))]

    def components(self) -> dict[str, Encoder | FeatureFusion | ModelFusion | Balance]:
        """The components that have weights by their role, such as "encoder/image" or "fusion/concat"."""
        encoders = {name: self.encoder_of(name) for name in self.modalities if name not in self.shares}
        nodes = [node for node in self.modules() if isinstance(node, FeatureNode | ModelNode)]
        fusions = {f"fusion/{node.name}": node.fusion for node in nodes}
        balance = {} if self.balance is None else {"balance": self.balance}
        return {**{f"encoder/{name}": encoder for name, encoder in encoders.items()}, **fusions, **balance}

    def pooling_of(self, name: str) -> ValuePooling | None:
        """What makes one of a row's values of an input; None where it has one at most."""
        if name not in self.pooling:
            return None
        pooling = self.pooling[name]
        assert isinstance(pooling, ValuePooling)
        return pooling

    def forward(self, inputs: Inputs, draws: Draws | None = None) -> Output:
        """Predict a batch.

        Args:
            inputs: signals as the modalities' `transform` gives them, with the rows that they belong to.
            draws: in training, where random draws come from; None to leave them to torch's global state.

        Returns:
            Scores, and all that training needs besides.
        """
        batch = self._encoded(inputs, draws)
        balanced = None
        if self.balance is not None and self.balanced is not None:
            balanced = self.balanced.enter(self.balance, batch, self.training, self.blended)
        branch = self._top(batch, inputs.present)
        scores = branch.scores
        if scores is None:
            assert self.head is not None
            assert branch.features is not None
            with region("head"):
                scores = at_least_float32(self.head(branch.features.pooled))
            # One that is blended has a name, by which its own course is followed.
            name = self.root.name if self.root is not None and self.balance is not None and self.balance.blends else ""
            batch.supervised.append(Supervised(name, scores, branch.present, self.blended.get(name, 1.0)))
        assert scores is not None
        scores = self.task.scores(scores)
        scores = torch.where(branch.present[:, None], scores, self.prior.to(scores.dtype))
        extras: dict[str, Tensor] = {}
        for name, found in batch.extras.items():
            top = self.root is not None and name == self.root.name
            extras |= {key if top else f"{name}_{key}": value for key, value in found.items()}
        return Output(scores, branch.present, tuple(batch.supervised), batch.parts, batch.losses, extras, balanced)

    def vectors(self, inputs: Inputs) -> Vectors:
        """The vectors of a batch: each input's, and what is made of all; in evaluation mode, without a balance's own.

        Args:
            inputs: as for `forward`.
        """
        batch = self._encoded(inputs, None)
        own = {name: vector_of(leaf) for name, leaf in batch.leaves.items()}
        branch = self._top(batch, inputs.present)
        if branch.features is not None:
            return Vectors(vector_of(branch), own, inputs.present)
        assert branch.scores is not None
        scores = self.task.scores(branch.scores)
        if self.task.space == "vectors":  # a unit vector of each input, side by side
            apart = scores.reshape(len(scores), len(self.modalities), -1)
            own = dict(zip(self.modalities, apart.unbind(1), strict=True))
            scores = normalize(apart.sum(1), dim=1)
        return Vectors(scores, own, inputs.present)

    def _encoded(self, inputs: Inputs, draws: Draws | None) -> Pass:
        """A batch with every input encoded, at the beginning of its way through the tree."""
        batch = Pass({}, self.task, draws)
        batch.leaves = {
            name: Branch(inputs.present[:, index], self._encode(name, inputs, batch))
            for index, name in enumerate(self.modalities)
        }
        return batch

    def _top(self, batch: Pass, present: Tensor) -> Branch:
        """What is fused of all; of a task without a target, what its own head makes of the inputs (B, M)."""
        if self.task.needs_target:
            return next(iter(batch.leaves.values())) if self.root is None else self.root.run(batch)
        assert self.head is not None
        features = {name: leaf.features.pooled for name, leaf in batch.leaves.items() if leaf.features is not None}
        with region("head"):
            logits = at_least_float32(self.head(features, present))
        batch.supervised.append(Supervised("", logits, present.any(1), 1.0))
        return Branch(present.any(1), scores=logits)

    def joint(self, seen: BalancedPass, kept: Tensor) -> Tensor:
        """The scores (B, K) of a batch that was seen, with some of the balanced modalities (B, M) of each row alone."""
        assert self.balanced is not None
        return self.balanced.joint(seen, kept, self.task, self.prior)

    def _encode(self, name: str, inputs: Inputs, batch: Pass) -> Features:
        """One modality's features for all B rows: encoded where it is present, zeros elsewhere."""
        encoder, pooling = self.encoder_of(name), self.pooling_of(name)
        size = inputs.present.shape[0]
        signal, given = inputs.signals.get(name), inputs.features.get(name)
        if given is not None:
            features = given
        elif signal is not None:
            batch.reseed(name)
            run = self._compiled.get(self.shares.get(name, name), encoder) if self.training else encoder
            with region("encoder", name):
                in_parts = pooling is not None and not self.training
                features = encoded_in_parts(encoder, signal) if in_parts else run(signal)
            batch.losses.update({(name, key): loss for key, loss in features.losses.items()})
        else:
            return self._absent(name, size)
        if pooling is not None:
            features = pooling(features, inputs.segments[name])
        rows = inputs.rows[name]
        if rows is None:
            return features
        pooled = None if features.pooled is None else _scatter(features.pooled, rows, size)
        if features.tokens is None:
            return Features(pooled=pooled)
        valid = features.mask
        if valid is None:
            valid = torch.ones(features.tokens.shape[:2], dtype=torch.bool, device=features.tokens.device)
        tokens = _scatter(features.tokens, rows, size)
        positions = None if features.positions is None else _scatter(features.positions, rows, size)
        return Features(pooled, tokens, _scatter(valid, rows, size), positions=positions)

    def _absent(self, name: str, size: int) -> Features:
        """Zeros for a modality that no row has; in training its parameters get zero gradients, not none.

        With none, Adam's state would depend on how rows fall into batches, and processes that train together would
        wait for each other.
        """
        encoder, pooling = self.encoder_of(name), self.pooling_of(name)
        zero = self.prior.new_zeros(())
        if self.training:
            parameters = [*encoder.parameters(), *(() if pooling is None else pooling.parameters())]
            zero = zero + sum(own_share(each).sum() * 0 for each in parameters if each.requires_grad)
        gives_tokens = self.outputs[name] == "tokens" or (pooling is not None and pooling.kind == "tokens")
        if gives_tokens:
            tokens = zero.expand(size, 1, encoder.out_features)
            return Features(tokens=tokens, mask=torch.zeros(size, 1, dtype=torch.bool, device=tokens.device))
        return Features(pooled=zero.expand(size, encoder.out_features))


def _scatter(values: Tensor, rows: Tensor, size: int) -> Tensor:
    """(n, ...) at the given rows of (size, ...), zeros elsewhere."""
    return values.new_zeros(size, *values.shape[1:]).index_copy(0, rows, values)
