"""On-the-fly prediction modulation (Wei et al. 2024).

Axes: B batch, M modalities.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import torch
from annotated_types import Ge, Le, Lt
from torch import Tensor

from mmreg import BalanceBatch, Observed
from mmreg_balance.heads import TINY, OwnHeads, confidences, discrepancies


class Opm(OwnHeads):
    """In training some rows do without the stronger modality, so that the others have to tell the target.

    Wei, Hu, Du and Wen, On-the-fly Modulation for Balanced Multimodal Learning, TPAMI 2024: with rho_m as of `ogm_ge`,
    modality m is left out of a row with the probability

        q_m = base (1 + strength tanh(rho_m - 1)) where rho_m > 1, else 0, at most 1

    The paper puts zeros in the place of its features; here the operator is told that the row lacks it, as it is where a
    table lacks a cell, so that any operator does. A row that has nothing else keeps it. rho_m is that of the batches so
    far, as q_m is needed before a batch's own is known: the means of s_m move by 1 - momentum with each. The authors'
    code takes a base of 0.5 in 70 % of the batches, after some epochs without; here every batch has its share.

    Cost: a linear layer a modality.

    Args:
        base: the probability for modalities that are hardly stronger.
        strength: how much more it is for those that are much stronger.
        momentum: what remains of the means at each batch.
    """

    observes = True
    sure: Tensor

    def __init__(
        self,
        inputs: Mapping[str, int],
        *,
        base: Annotated[float, Ge(0), Le(1)] = 0.3,
        strength: Annotated[float, Ge(0), Le(100)] = 0.5,
        momentum: Annotated[float, Ge(0), Lt(1)] = 0.9,
        **options: Any,
    ) -> None:
        super().__init__(inputs, **options)
        self.base, self.strength, self.momentum = base, strength, momentum
        self.register_buffer("sure", torch.full((len(inputs),), -1.0))  # below zero: never seen

    def probabilities(self) -> Tensor:
        """The probability (M,) with which each modality is left out."""
        seen = (self.sure >= 0).to(self.sure.dtype)
        ratios = discrepancies(self.sure.clamp(min=0) * seen, seen)
        share = self.base * (1 + self.strength * torch.tanh(ratios - 1))
        return torch.where(ratios > 1, share.clamp(max=1), 0)

    def keep(self, present: Tensor) -> Tensor:
        """Leave modalities out of rows that have others."""
        drawn = torch.rand(present.shape, device=present.device)
        kept = present & (drawn >= self.probabilities())
        return torch.where(kept.any(1, keepdim=True), kept, present)

    def observe(self, batch: BalanceBatch) -> Observed:
        """Take in how sure each modality is of a batch's targets."""
        sums, rows = confidences(batch)
        now = sums / rows.clamp(min=TINY)
        moved = torch.where(self.sure >= 0, self.momentum * self.sure + (1 - self.momentum) * now, now)
        self.sure.copy_(torch.where(rows > 0, moved, self.sure))
        return Observed()
