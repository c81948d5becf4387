"""Evidence of the models as Dirichlet distributions, combined by Dempster's rule.

Axes: B batch, K classes, M modalities (parts).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor

from mmreg import Fused, Space
from mmreg.layers import at_least_float32
from mmreg_fusion.model_level.common import ScoreFusion

MAX_LOG_ALPHA = 80.0
"""Keeps exp(log alpha) finite in float32; no softplus of a float32 logit comes near it in practice."""


class Evidential(ScoreFusion):
    """Trusted multi-view classification: Dempster-Shafer combination of Dirichlet evidence (Han 2021).

    A part's head gives evidence e_k = softplus(logit_k), so alpha_k = e_k + 1 and S = sum_k alpha_k: belief masses
    b_k = e_k / S and an uncertainty u = K / S, which sum to one. (A part that is a combination of models itself has
    a head too, which reads its log-probabilities.) The reduced combination of two parts,

        b_k = (b1_k b2_k + b1_k u2 + b2_k u1) / (1 - C),  u = u1 u2 / (1 - C),  C = sum_{i != j} b1_i b2_j,

    is in terms of the evidence (the conflict C cancels) 1 + e_k / K = (1 + e1_k / K) (1 + e2_k / K). So all parts
    that a row has are combined at once, in any order: sum_m log(1 + e_mk / K), and an absent part is one without
    evidence. The result is the expected probability log(alpha_k / S), and `uncertainty` (B,) = K / S in (0, 1] among
    the extras. Cost: O(M K) a row; no parameters. All in float32 and in logarithms: no evidence overflows.

    Each part is trained by the expected cross-entropy under its Dirichlet, and a divergence that takes evidence from
    wrong classes, with target y and alpha~ = alpha but 1 at y:
    psi(S) - psi(alpha_y) + lambda KL(Dir(alpha~) || Dir(1)), lambda = kl_weight min(1, progress / annealing).
    The combined opinion, whose loss the paper adds, is trained too where the recipe asks for a joint loss.

    Han, Zhang, Fu and Zhou, Trusted Multi-View Classification, ICLR 2021. The loss is that of Sensoy, Kaplan and
    Kandemir, Evidential Deep Learning to Quantify Classification Uncertainty, NeurIPS 2018.

    Args:
        annealing: the part of the training, in (0, 1], over which the divergence's weight grows from zero.
        kl_weight: the divergence's weight from then on; 0 leaves it out. The paper's 1 makes parts so unsure on small
            data that their combination loses accuracy.
    """

    spaces = frozenset({"log_probabilities"})
    evidential = True

    def __init__(
        self,
        inputs: Mapping[str, int],
        *,
        num_outputs: int,
        space: Space,
        annealing: Annotated[float, Gt(0), Le(1)] = 1.0,
        kl_weight: Annotated[float, Ge(0)] = 0.1,
    ) -> None:
        super().__init__(inputs, num_outputs=num_outputs, space=space)
        self.annealing = annealing
        self.kl_weight = kl_weight

    def part_scores(self, logits: Tensor) -> Tensor:
        """The parameters' logarithms, log alpha (B, K) >= 0: normalised they are the expected log-probabilities."""
        return torch.nn.functional.softplus(at_least_float32(logits)).log1p()

    def part_loss(self, scores: Tensor, targets: Tensor, progress: float | Tensor) -> Tensor:
        """The loss (B,) of one part's logits (B, K) for targets (B,) int64."""
        alpha = torch.nn.functional.softplus(at_least_float32(scores)) + 1
        expected = alpha.sum(-1).digamma() - alpha.gather(-1, targets[:, None]).squeeze(-1).digamma()
        share = progress / self.annealing
        weight = self.kl_weight * (share.clamp(max=1.0) if isinstance(share, Tensor) else min(1.0, share))
        return expected + weight * divergence_from_uniform(alpha.scatter(-1, targets[:, None], 1.0))

    def forward(
        self, scores: Mapping[str, Tensor], present: Tensor, features: Mapping[str, Tensor] | None = None
    ) -> Fused:
        """Combine M times (B, K) log alpha, as `part_scores` gives them, with present (B, M) to (B, K)."""
        evidence = self.stack(scores, present).clamp(0, MAX_LOG_ALPHA).expm1()
        growth = (evidence / self.num_outputs).log1p().sum(1)
        # log(1 + K (exp(growth) - 1)), with the overflowing factor taken out.
        log_alpha = growth + (-(self.num_outputs - 1) * (-growth).expm1()).log1p()
        uncertainty = (math.log(self.num_outputs) - log_alpha.logsumexp(-1)).exp()
        return Fused(log_alpha.log_softmax(-1), extras={"uncertainty": uncertainty})


def divergence_from_uniform(alpha: Tensor) -> Tensor:
    """KL(Dir(alpha) || Dir(1)) in nats, (B,), of parameters (B, K).

    log Gamma(S) - log Gamma(K) - sum_k log Gamma(alpha_k) + sum_k (alpha_k - 1) (psi(alpha_k) - psi(S)).
    """
    total = alpha.sum(-1, keepdim=True)
    normaliser = total.squeeze(-1).lgamma() - math.lgamma(alpha.shape[-1]) - alpha.lgamma().sum(-1)
    return normaliser + ((alpha - 1) * (alpha.digamma() - total.digamma())).sum(-1)
