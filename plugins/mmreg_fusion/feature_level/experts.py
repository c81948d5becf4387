"""Each modality as an expert: a product of Gaussians over a latent, and a routed mixture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor, nn

from mmreg import FeatureFusion, Features
from mmreg.layers import MLP, at_least_float32, masked_softmax
from mmreg_fusion.feature_level.common import Share, Size, map_each, pooled
from mmreg_fusion.precision import narrow


class ProductOfExperts(FeatureFusion):
    """Each modality gives a Gaussian over a shared latent; F is the mean of their product (Wu & Goodman 2018).

    With [mu_i, l_i] = MLP_i(f_i), experts N(mu_i, exp(l_i)) and the prior N(0, 1), over the modalities present:

        precision = 1 + sum exp(-l_i),  F = mean = (sum exp(-l_i) mu_i) / precision,  variance = 1 / precision

    computed as a softmax over [0, -l_1, ..., -l_M] (the prior's mean is 0) and its log-sum-exp, which no log-variance
    makes overflow, in float32 (or float64). Where nothing is present, F is the prior's mean, zero.

    F is the mean in training too, not a sample: the operator is deterministic, and the head sees in training what it
    sees later. In training the Kullback-Leibler divergence from the prior is added as a loss, summed over the latent:
    kl_weight * mean over rows of 1/2 sum(variance + mean^2 - 1 - log variance).

    Pooled (B, D) of each modality; gives (B, Z). Cost and parameters: O(M D Z), linear in M.

    Args:
        inputs: name and feature size D of each modality.
        features: size of the latent (Z).
        hidden: sizes of hidden layers of each expert; none for linear ones.
        kl_weight: weight of the divergence from the prior; 0 for none.
        dropout: share of values dropped after each hidden layer.
    """

    def __init__(
        self,
        inputs: Mapping[str, int],
        *,
        features: Size = 64,
        hidden: tuple[Size, ...] = (),
        kl_weight: Annotated[float, Ge(0)] = 0.001,
        dropout: Share = 0.1,
    ) -> None:
        super().__init__()
        self.kl_weight = kl_weight
        self.experts = nn.ModuleList(MLP(size, hidden, 2 * features, dropout) for size in inputs.values())
        self.out_features = features

    def forward(self, features: Mapping[str, Features], present: Tensor) -> Features:
        """Fuse to (B, Z); in training, `losses` holds "kl_divergence" if it has a weight."""
        gaussians = map_each(self.experts, pooled(features, present))
        means, log_variances = torch.where(present.unsqueeze(-1), at_least_float32(gaussians), 0).chunk(2, -1)
        log_precisions = (-log_variances).masked_fill(~present.unsqueeze(-1), -torch.inf)
        log_precisions = torch.cat([torch.zeros_like(log_precisions[:, :1]), log_precisions], 1)
        mean = (log_precisions.softmax(1)[:, 1:] * means).sum(1)
        losses = {}
        if self.training and self.kl_weight:
            log_variance = -log_precisions.logsumexp(1)
            divergence = 0.5 * (log_variance.exp() + mean.square() - 1 - log_variance).sum(1)
            losses["kl_divergence"] = self.kl_weight * divergence.mean()
        return Features(pooled=narrow(mean, gaussians.dtype), losses=losses)


class MixtureOfExperts(FeatureFusion):
    """A router weighs the modalities' experts (Jacobs 1991), with a load-balance loss (Shazeer 2017).

    F = sum over i of g_i MLP_i(f_i), with g = softmax of R [f1, ..., fM] over the modalities present: per row, all
    experts are used. The vectors of absent modalities count as zero in the router, and where nothing is present F is
    zero. Gates and loss are computed in float32 (or float64).

    In training, loss = balance_weight * sum over i of (G_i - U_i)^2 / (U_i N): G_i is the sum of modality i's gates
    over the batch, U_i what it would be if every row weighed the modalities it has equally, N the number of rows that
    have any. Without absence that is the squared coefficient of variation of the experts' importance, as in Shazeer
    2017; with it, a modality is not pushed up for being rare. Balance over a batch still lets each row have one expert
    alone, and on few rows a router ends there. So its scores are held small by a second loss, logit_weight * mean
    square of those of the modalities present (as the router's z-loss of Zoph 2022, which leaves differences alone).
    A single modality has neither router nor losses.

    Pooled (B, D) of each modality; gives (B, W). Cost and parameters: O(M D W), with hidden layers of size H
    O(M (D + W) H), linear in M; the router has M^2 D.

    Args:
        inputs: name and feature size D of each modality.
        features: size of each expert's result (W).
        hidden: sizes of hidden layers of each expert; none for linear ones.
        balance_weight: weight of the load-balance loss; 0 for none.
        logit_weight: weight of the loss on the router's scores; 0 for none.
        dropout: share of values dropped after each hidden layer.
    """

    def __init__(
        self,
        inputs: Mapping[str, int],
        *,
        features: Size = 64,
        hidden: tuple[Size, ...] = (),
        balance_weight: Annotated[float, Ge(0)] = 0.01,
        logit_weight: Annotated[float, Ge(0)] = 0.01,
        dropout: Share = 0.1,
    ) -> None:
        super().__init__()
        self.balance_weight = balance_weight
        self.logit_weight = logit_weight
        self.experts = nn.ModuleList(MLP(size, hidden, features, dropout) for size in inputs.values())
        # A softmax over one modality is 1 whatever its score.
        self.router = nn.Linear(sum(inputs.values()), len(inputs)) if len(inputs) > 1 else None
        self.out_features = features

    def forward(self, features: Mapping[str, Features], present: Tensor) -> Features:
        """Fuse to (B, W); in training, `losses` holds "load_balance" and "router_logits" as they have weights."""
        vectors = pooled(features, present)
        outputs = map_each(self.experts, vectors)
        if self.router is None:
            return Features(pooled=torch.where(present, outputs[:, 0], 0))
        logits = at_least_float32(self.router(torch.cat(vectors, 1)))
        gates = masked_softmax(logits, present)
        losses = {}
        if self.training and self.balance_weight:
            losses["load_balance"] = self.balance_weight * load_imbalance(gates, present)
        if self.training and self.logit_weight:
            squares = torch.where(present, logits.square(), 0).sum() / present.sum().clamp(min=1)
            losses["router_logits"] = self.logit_weight * squares
        return Features(pooled=torch.einsum("bm,bmd->bd", gates.to(outputs.dtype), outputs), losses=losses)


def load_imbalance(gates: Tensor, present: Tensor) -> Tensor:
    """How far a router is from using all modalities equally: a scalar, 0 if it does.

    Args:
        gates: (B, M), float32 or float64: each row's weights of the modalities; they sum to one, or are all zero where
            nothing is present.
        present: (B, M) bool.
    """
    equal = present / present.sum(1, keepdim=True).clamp(min=1).to(gates.dtype)
    load, fair = gates.sum(0), equal.sum(0)
    rows = present.any(1).sum().clamp(min=1)
    return torch.where(fair > 0, (load - fair).square() / fair.clamp(min=1e-6), 0).sum() / rows
