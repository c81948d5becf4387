"""The interface of what keeps one modality from starving the others while they are trained as one.

Axes: B batch, D features, H what reaches a head, K classes, M modalities.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor, nn

from mmreg.contract.lifecycle import Restorable
from mmreg.contract.task import Space


@dataclass(frozen=True)
class BalanceBatch:
    """A training batch after its forward pass, as a balance sees it.

    Attributes:
        vectors: of each modality (B, D) what its encoder gives, the mean of valid tokens where it gives tokens; those
            of absent rows may hold anything.
        logits: what `own_logits` or `shared_logits` gave, by modality.
        present: (B, M) bool, which row has which modality, whatever `keep` left of it.
        targets: as the task encodes them: (B,) int64 classes, (B, K) 0/1 labels, or (B, K) values.
        weights: (B,) of the rows' losses.
        prior: (K,) the scores of a row that has no modality at all.
        row_loss: the task's loss of each row, (B,), of logits or scores for these targets.
        joint: what the fused model gives, scores (B, K), if each row has those modalities alone that a mask (B, M)
            leaves it; computed as in use, and without gradients. A row that has none gets the prior.
    """

    vectors: Mapping[str, Tensor]
    logits: Mapping[str, Tensor]
    present: Tensor
    targets: Tensor
    weights: Tensor
    prior: Tensor
    row_loss: Callable[[Tensor], Tensor]
    joint: Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Observed:
    """What a balance makes of a batch.

    Attributes:
        losses: named extra terms (scalars, means over the batch's rows, already weighted) that training adds.
        sums: named tensors without gradients, which are added up over the batches of an optimizer step for `modulate`.
    """

    losses: Mapping[str, Tensor] = field(default_factory=dict)
    sums: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class EncoderGradients:
    """The gradients of one modality's encoder, summed over the batches of an optimizer step.

    Attributes:
        whole: of each trained weight that of all losses together; `modulate` changes these tensors in place.
        own: in the same order, that of the modality's own loss; empty unless the balance's `own_gradients` is set.
    """

    whole: Sequence[Tensor]
    own: Sequence[Tensor] = ()


class Balance(nn.Module, Restorable, ABC):
    """How modalities that reach one head through feature-level fusion are trained, so that each of them learns.

    A subclass's constructor is `__init__(self, inputs: Mapping[str, int], *, num_logits: int, num_outputs: int,
    space: Space, option=default, ...)`. `inputs` gives each modality's name and the size D of its vector, in the
    recipe's order; `num_logits` is what a head gives for a row, `num_outputs` is K, and `space` what scores are. The
    framework passes these four in; one that sets `shares_head` gets `head_size`, which is H, as well.

    It is a part of the model: what it has to remember is in buffers, and what it learns in parameters, so that both are
    saved with the weights, and a training that goes on finds them. Whatever it decides is decided by tensors: a step
    must not wait for a device. Random numbers are drawn from torch's global state, which is set for it.

    Every method has a default that leaves the training as it is; a balance implements those that it needs.

    Attributes:
        passed_in: keyword-only parameters that are no options, as the framework passes them in.
        spaces: the spaces of a task's scores in which it has a meaning; "several", if it needs no more of targets than
            the losses of rows.
        min_inputs: the least number of modalities.
        max_inputs: the greatest number of modalities; None for any.
        observes: whether `observe` is called. As it sees targets, the rows of batches cannot be mixed then.
        modulates: whether `modulate` is called. As it changes gradients of each modality's encoder, none can be shared.
        own_gradients: whether `modulate` is to be told the gradients of the modalities' own losses as well, for which
            training goes back through the encoders twice.
        detaches: whether operator and head learn from detached features: then encoders learn by what the balance adds.
        shares_head: whether each modality says by itself what the operator and its head make of it alone:
            `shared_logits` is called in the place of `own_logits`, and the operator is run once more a modality.
        blends: whether training weighs the modalities' own losses and the fused one anew every few epochs, by how much
            each of them overfits (Wang et al. 2020), as it does for the parts of a model-level fusion.
        own_loss: the weight of the loss of each modality's own logits; with 0 there is no such loss.
        among_processes: whether several processes can train with it, each with some of a batch's rows: what it
            remembers then moves in `observe`, which sees the rows of all of them, and in `modulate` alone.
    """

    passed_in: ClassVar[frozenset[str]] = frozenset({"num_logits", "num_outputs", "space", "head_size", "restored"})
    spaces: ClassVar[frozenset[Space]] = frozenset({"log_probabilities", "log_odds", "values"})
    min_inputs: ClassVar[int] = 2
    max_inputs: ClassVar[int | None] = None
    observes: ClassVar[bool] = False
    modulates: ClassVar[bool] = False
    own_gradients: ClassVar[bool] = False
    detaches: ClassVar[bool] = False
    shares_head: ClassVar[bool] = False
    blends: ClassVar[bool] = False
    own_loss: float = 0.0
    among_processes: ClassVar[bool] = True

    def own_logits(self, vectors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """What each modality says by itself, (B, num_logits); by these a run shows each modality's own figures.

        It is called in training and in use, before the modalities are fused.

        Args:
            vectors: see `BalanceBatch`; detach them where the encoders are not to learn from it.

        Returns:
            Logits of all modalities, or none.
        """
        return {}

    def shared_logits(self, fused: Mapping[str, Tensor], present: Tensor, head: nn.Linear) -> Mapping[str, Tensor]:
        """What each modality says by itself through the head of all, if `shares_head`; else as `own_logits`.

        Args:
            fused: of each modality (B, H) what the operator makes of it alone; of rows that lack it anything.
            present: (B, M) bool, which row has which modality.
            head: what makes logits of H features. In training its weights learn from what is returned.

        Returns:
            Logits (B, num_logits) of all modalities.
        """
        return {name: head(each) for name, each in fused.items()}

    def keep(self, present: Tensor) -> Tensor:
        """Which modalities of a training batch's rows reach the fusion.

        Args:
            present: (B, M) bool, which row has which modality.

        Returns:
            (B, M) bool; true only where `present` is, and somewhere in every row that has a modality.
        """
        return present

    def observe(self, batch: BalanceBatch) -> Observed:
        """Look at a training batch, if `observes`; a buffer may change here, less one that a term's gradient needs."""
        return Observed()

    def modulate(self, gradients: Mapping[str, EncoderGradients], sums: Mapping[str, Tensor]) -> None:
        """Change the gradients of an optimizer step, if `modulates`; they may be scaled, as for float16.

        Args:
            gradients: of each modality's encoder, in order.
            sums: what `observe` gave, added up over the batches of the step.
        """
