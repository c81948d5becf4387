"""A linear head for each modality, and how sure each is of its targets.

Axes: B batch, D features, K classes, M modalities.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mmreg import Balance, BalanceBatch, Space

TINY = 1e-30
"""Stands for zero where one divides by it."""


class OwnHeads(Balance):
    """The base of balances with a linear head for each modality; a subclass that has options hands the others on."""

    detached = True
    """Whether the heads read detached vectors: they learn to tell what is in them, and the encoders do not notice."""
    own_loss = 1.0

    def __init__(self, inputs: Mapping[str, int], *, num_logits: int, num_outputs: int, space: Space) -> None:
        super().__init__()
        self.heads = nn.ModuleList(nn.Linear(size, num_logits) for size in inputs.values())

    def own_logits(self, vectors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """The heads' logits (B, num_logits) by modality."""
        return {
            name: head(vector.detach() if self.detached else vector)
            for head, (name, vector) in zip(self.heads, vectors.items(), strict=True)
        }


def mean_loss(batch: BalanceBatch, losses: Tensor, present: Tensor) -> Tensor:
    """The weighted sum of losses (B,) over the rows (B,) that count, over the weight of all."""
    return torch.where(present, losses * batch.weights, 0).sum() / batch.weights.sum().clamp(min=TINY)


def confidences(batch: BalanceBatch) -> tuple[Tensor, Tensor]:
    """How sure each modality's own head is of the targets: sums (M,), and the weights (M,) of the rows that have it.

    A row's confidence is exp(-loss): of classes, the probability of the right one.
    """
    sure = torch.stack([torch.exp(-batch.row_loss(logits.detach())) for logits in batch.logits.values()], 1)
    weights = torch.where(batch.present, batch.weights[:, None], 0).to(sure.dtype)
    return torch.where(batch.present, sure * weights, 0).sum(0), weights.sum(0)


def discrepancies(sums: Tensor, rows: Tensor) -> Tensor:
    """By how much each modality is surer than the others: its mean over the mean of theirs, (M,).

    It is 1 for one that no row has, and where no other one is there.

    Args:
        sums: (M,) see `confidences`.
        rows: (M,) likewise.
    """
    there = rows > 0
    means = torch.where(there, sums / rows.clamp(min=TINY), 0)
    others = there.sum() - there.to(torch.long)
    theirs = _sums_of_others(means) / others.clamp(min=1)
    return torch.where(there & (others > 0), means.clamp(min=TINY) / theirs.clamp(min=TINY), 1)


def _sums_of_others(values: Tensor) -> Tensor:
    """For each of (M,) the sum of all but itself, without taking one from the sum of all, which would lose digits."""
    return (values[None, :] * (1 - torch.eye(len(values), dtype=values.dtype, device=values.device))).sum(1)
