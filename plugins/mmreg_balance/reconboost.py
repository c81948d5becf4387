"""Boosting of one modality at a time against the others (Hua et al. 2024).

Axes: B batch, M modalities.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import torch
from annotated_types import Ge, Le
from torch import Tensor

from mmreg import BalanceBatch, EncoderGradients, Observed
from mmreg_balance.heads import OwnHeads, mean_loss


class ReconBoost(OwnHeads):
    """One modality learns at a time, most of all what the others together do not tell, and then all of them.

    Hua, Xu, Bao, Yang and Huang, ReconBoost: Boosting Can Achieve Modality Reconcilement, ICML 2024: modality m has a
    head of its own, phi_m, and Phi_m is the sum of what the others' heads give. In m's turn its encoder and head learn,
    as those of the others stay, by the agreement with the target less the reconcilement with what the others know: as
    in the authors' code, with q the probability that Phi_m gives the right class,

        (1 - strength q) loss(phi_m)

    so that rows which the others get right count less. After each turn comes their global rectification: all encoders
    and heads learn by loss(sum of all phi). The turns go round in the recipe's order.

    Where a target is no class, q is exp(-loss) of Phi_m. A row that has no other modality has q = 0. The authors
    weigh the two terms by 5 (or 4) and 1, hence the strength of 0.2; here it is their ratio alone that counts.
    A third term of theirs, which is to keep what was learned before, has no gradient in their code, and is left out.
    They begin with encoders that were trained alone, by which `encoder: {from: RUN}` begins here. These are ours:

    - In use the operator fuses, where the paper adds up the heads' logits. Operator and head learn from detached
      features in all steps, so that encoders learn by the terms above alone.
    - Turns and rectifications are told in steps; the authors take four epochs for each.
    - Momentum of an optimizer goes on to move encoders whose turn it is not.

    For classes and labels: numbers that each head tells by itself do not add up. A modality that no row of a step has
    learns nothing in its turn.

    Cost: a linear layer a modality. As encoders learn in turns, it may take more epochs than other methods.

    Args:
        strength: how much less a row counts that the others are sure of.
        turn: the steps of a turn.
        rectification: the steps of the rectification after each turn; 0 for none.
    """

    spaces = frozenset({"log_probabilities", "log_odds"})
    detached = False
    detaches = True
    observes = True
    modulates = True
    own_loss = 0.0
    steps: Tensor

    def __init__(
        self,
        inputs: Mapping[str, int],
        *,
        strength: Annotated[float, Ge(0), Le(1)] = 0.2,
        turn: Annotated[int, Ge(1), Le(10**9)] = 1,
        rectification: Annotated[int, Ge(0), Le(10**9)] = 1,
        **options: Any,
    ) -> None:
        super().__init__(inputs, **options)
        self.strength, self.turn, self.rectification = strength, turn, rectification
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def learning(self) -> Tensor:
        """Which modality's turn it is, () int64; M for the rectification, in which all of them learn."""
        length, count = self.turn + self.rectification, len(self.heads)
        return torch.where(self.steps % length < self.turn, self.steps // length % count, count)

    def observe(self, batch: BalanceBatch) -> Observed:
        """The term of the modality whose turn it is, or that of all."""
        learning = self.learning()
        given = [torch.where(batch.present[:, [at]], each, 0) for at, each in enumerate(batch.logits.values())]
        boosting = [torch.where(learning == at, self._boosting(batch, given, at), 0) for at in range(len(given))]
        whole = mean_loss(batch, batch.row_loss(torch.stack(given).sum(0)), batch.present.any(1))
        rectification = torch.where(learning == len(given), whole, 0)
        return Observed({"boosting": torch.stack(boosting).sum(), "rectification": rectification})

    def _boosting(self, batch: BalanceBatch, given: list[Tensor], at: int) -> Tensor:
        others = [each.detach() for place, each in enumerate(given) if place != at]
        theirs = torch.cat([batch.present[:, :at], batch.present[:, at + 1 :]], 1).any(1)
        sure = torch.where(theirs, torch.exp(-batch.row_loss(torch.stack(others).sum(0))), 0)
        return mean_loss(batch, (1 - self.strength * sure) * batch.row_loss(given[at]), batch.present[:, at])

    def modulate(self, gradients: Mapping[str, EncoderGradients], sums: Mapping[str, Tensor]) -> None:
        """A step is over; the gradients stay."""
        self.steps.add_(1)
