"""Prototypical modal rebalance (Fan et al. 2023).

Axes: B batch, D features, K classes, M modalities.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import torch
from annotated_types import Ge, Le, Lt
from torch import Tensor

from mmreg import Balance, BalanceBatch, Observed, Space
from mmreg_balance.heads import discrepancies, mean_loss


class Pmr(Balance):
    """The features of the weaker modality are pulled to the prototypes of their classes, and from those of others.

    Fan, Xu, Wang, Wang and Guo, PMR: Prototypical Modal Rebalance for Multimodal Learning, CVPR 2023. A prototype c_k
    is the mean of what a modality's encoder gives for class k. With p_m(k) the softmax over -|z - c_k|, z being what it
    gives for a row, s_m the mean of p_m(target) over a batch's rows, and rho_m = s_m / (mean of the others' s), the
    loss of each modality that is weaker, rho_m < 1, gets the term

        alpha beta_m mean(-log p_m(target)),  beta_m = min(1 / rho_m - 1, 1)

    Prototypes are means that move by 1 - momentum at each batch that has rows of their class; the authors compute them
    anew at each epoch from a part of the rows. Their further term, by which the stronger modality is kept back in the
    first epochs, is left out. A class that no row had so far has no prototype, and counts for nothing. Each modality's
    own figures are those of predicting the class of the nearest prototype. For exclusive classes alone.

    Cost: distances of (B, D) to (K, D) a modality, and as much memory as these prototypes.

    Args:
        alpha: the weight of the term.
        momentum: what remains of a prototype at each batch.
    """

    spaces = frozenset({"log_probabilities"})
    observes = True
    known: Tensor

    def __init__(
        self,
        inputs: Mapping[str, int],
        *,
        num_logits: int,
        num_outputs: int,
        space: Space,
        alpha: Annotated[float, Ge(0), Le(100)] = 1.0,
        momentum: Annotated[float, Ge(0), Lt(1)] = 0.9,
    ) -> None:
        super().__init__()
        self.alpha, self.momentum = alpha, momentum
        for index, size in enumerate(inputs.values()):
            self.register_buffer(f"prototypes_{index}", torch.zeros(num_outputs, size))
        self.register_buffer("known", torch.zeros(len(inputs), num_outputs, dtype=torch.bool))

    def own_logits(self, vectors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Log-probabilities (B, K) by the distances to the prototypes that there are."""
        found = {}
        for index, (name, vector) in enumerate(vectors.items()):
            own = self.get_buffer(f"prototypes_{index}").to(vector.dtype, copy=True)  # they move before the way back
            distances = torch.cdist(vector, own, compute_mode="donot_use_mm_for_euclid_dist")
            lowest = torch.finfo(distances.dtype).min / 2
            found[name] = (-distances).masked_fill(~self.known[index], lowest).log_softmax(1)
        return found

    def observe(self, batch: BalanceBatch) -> Observed:
        """The term of the weaker modalities; then the prototypes move."""
        terms, sure, rows = [], [], []
        for index, logits in enumerate(batch.logits.values()):
            counts = batch.present[:, index] & self.known[index][batch.targets]
            right = logits.gather(1, batch.targets[:, None])[:, 0]
            weights = torch.where(counts, batch.weights, 0).to(right.dtype)
            terms.append(mean_loss(batch, -right, counts))
            sure.append(torch.where(counts, right.detach().exp() * weights, 0).sum())
            rows.append(weights.sum())
        ratios = discrepancies(torch.stack(sure), torch.stack(rows))
        weaker = torch.where(ratios < 1, (1 / ratios - 1).clamp(max=1), 0)
        self._move(batch)
        return Observed({"prototypes": self.alpha * (weaker * torch.stack(terms)).sum()})

    @torch.no_grad()
    def _move(self, batch: BalanceBatch) -> None:
        classes = torch.arange(self.known.shape[1], device=batch.targets.device)
        for index, vector in enumerate(batch.vectors.values()):
            present = batch.present[:, index, None]
            member = ((batch.targets[:, None] == classes) & present).to(vector.dtype)
            counts = member.sum(0)[:, None]
            means = member.T @ vector.detach().masked_fill(~present, 0) / counts.clamp(min=1)
            own = self.get_buffer(f"prototypes_{index}")
            moved = torch.where(self.known[index][:, None], self.momentum * own + (1 - self.momentum) * means, means)
            own.copy_(torch.where(counts > 0, moved, own))
            self.known[index].logical_or_(counts[:, 0] > 0)
