"""Adaptive gradient modulation (Li et al. 2023).

Axes: B batch, K classes, M modalities.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from typing import Annotated

import torch
from annotated_types import Ge, Le
from torch import Tensor

from mmreg import Balance, BalanceBatch, EncoderGradients, Observed, Space
from mmreg_balance.heads import TINY

CAP = 10.0
"""The largest difference that is taken the exponential of; the authors' code has the same."""


class Agm(Balance):
    """Gradients of each encoder by what its modality adds to the fused prediction, against what it added so far.

    Li, Li, Hu, Lei, Li and Zhou, Boosting Multi-modal Model Performance with Adaptive Gradient Modulation, ICCV 2023.
    What modality m adds to a row's scores is its Shapley value, exactly,

        phi_m = sum over sets S without m of |S|! (n - |S| - 1)! / n! (f(S with m) - f(S)),

    f(S) being what the fused model gives for the row with the modalities in S alone, and for none of them the training
    prior. With s_m the mean over a step's rows of log p(target | phi_m), t_m the mean of s_m over the steps before, and

        r_m = exp(mean over the others j of s_m - s_j),  tau_m = exp(mean over the others j of t_m - t_j),

    the gradients of m's encoder are multiplied by exp(alpha (tau_m - r_m)): smaller where a modality does better than
    it used to beside the others, larger where it does worse. Differences are capped at 10. It works with any operator,
    as rows that lack modalities are what every operator takes; f is computed as in use, without dropout. Where a target
    is no class, log p is minus the loss; numbers are predicted by the prior and phi_m. A modality that none of the rows
    has counts for nothing. The modalities' own figures are not shown, as none predicts by itself.

    Cost: the operator and the head are run 2^n - 1 times more, forwards alone; the encoders are not.

    Args:
        alpha: how much the gradients are changed.
    """

    max_inputs = 4
    observes = True
    modulates = True
    mean: Tensor
    steps: Tensor

    def __init__(
        self,
        inputs: Mapping[str, int],
        *,
        num_logits: int,
        num_outputs: int,
        space: Space,
        alpha: Annotated[float, Ge(0), Le(5)] = 0.5,
    ) -> None:
        super().__init__()
        self.alpha, self.space = alpha, space
        self.register_buffer("mean", torch.zeros(len(inputs)))
        self.register_buffer("steps", torch.zeros(len(inputs)))

    def observe(self, batch: BalanceBatch) -> Observed:
        """What each modality adds to a batch's scores, and how good that is."""
        sums = []
        for added in shapley_values(batch.joint, batch.present):
            if self.space == "log_probabilities":
                added = added.log_softmax(1)
            elif self.space == "values":
                added = added + batch.prior
            sums.append(-batch.row_loss(added))
        weights = torch.where(batch.present, batch.weights[:, None], 0)
        good = torch.where(batch.present, torch.stack(sums, 1) * weights, 0)
        return Observed(sums={"good": good.sum(0), "rows": weights.sum(0)})

    def modulate(self, gradients: Mapping[str, EncoderGradients], sums: Mapping[str, Tensor]) -> None:
        """Multiply the gradients of each encoder, and take in how good each modality was."""
        rows = sums["rows"]
        there = rows > 0
        now = sums["good"] / rows.clamp(min=TINY)
        known = there & (self.steps > 0)
        change = (_ratios(self.mean.to(now.dtype), known) - _ratios(now, known)).clamp(max=CAP)
        factors = torch.where(known, torch.exp(self.alpha * change), 1)
        for factor, own in zip(factors, gradients.values(), strict=True):
            for gradient in own.whole:
                gradient.mul_(factor.to(gradient.dtype))
        steps = self.steps + there
        self.mean.copy_(torch.where(there, self.mean + (now - self.mean) / steps.clamp(min=1), self.mean))
        self.steps.copy_(steps)


def shapley_values(value: Callable[[Tensor], Tensor], present: Tensor) -> list[Tensor]:
    """What each modality adds to the scores (B, K) of the rows of a batch.

    Args:
        value: gives the scores of all rows with the modalities that a mask (B, M) leaves them.
        present: (B, M) bool, which row has which modality; what a row lacks adds nothing.
    """
    count = present.shape[1]
    sets = [frozenset(each) for size in range(count + 1) for each in itertools.combinations(range(count), size)]
    columns = torch.arange(count, device=present.device)
    values = {
        each: value(present & sum((columns == m for m in each), torch.zeros_like(columns, dtype=torch.bool)))
        for each in sets
    }
    added = []
    for modality in range(count):
        terms = [
            math.factorial(len(each))
            * math.factorial(count - len(each) - 1)
            / math.factorial(count)
            * (values[each | {modality}] - values[each])
            for each in sets
            if modality not in each
        ]
        added.append(torch.stack(terms).sum(0))
    return added


def _ratios(values: Tensor, there: Tensor) -> Tensor:
    """For each of (M,) that is there, the exponential of its mean difference from the others that are."""
    known = there.to(values.dtype)
    others = (known.sum() - known).clamp(min=1)
    differences = (values[:, None] - values[None, :]) * known[None, :]
    return torch.exp((differences.sum(1) / others).clamp(-CAP, CAP))
