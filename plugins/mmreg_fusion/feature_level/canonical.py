"""Projections trained to correlate between modalities: deep canonical correlation analysis as an added loss."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Annotated

import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn

from mmreg import FeatureFusion, Features
from mmreg.layers import MLP, at_least_float32
from mmreg_fusion.feature_level.common import Share, Size, map_each, pooled


def canonical_correlation(left: Tensor, right: Tensor, rows: Tensor, ridge: float) -> Tensor:
    """The sum of the canonical correlations of two views, each in [0, 1] (Hotelling 1936, Andrew 2013).

    The singular values of T = S11^(-1/2) S12 S22^(-1/2), summed, where S are the covariances over the chosen rows and
    S11 and S22 get `ridge` times their mean variance on the diagonal. Computed with Cholesky factors in place of the
    square roots: that turns T but leaves its singular values, and unlike an eigendecomposition it has a gradient
    where eigenvalues coincide.

    Args:
        left: (..., B, D), float32 or float64.
        right: (..., B, D).
        rows: (..., B) bool, the rows that count; the others must be finite.
        ridge: the regularisation, relative to the mean variance; positive.

    Returns:
        (...), between 0 and D.
    """
    weights = rows.unsqueeze(-1).to(left.dtype)
    count = weights.sum(-2, keepdim=True)

    def centre(values: Tensor) -> Tensor:
        return (values - (values * weights).sum(-2, keepdim=True) / count.clamp(min=1)) * weights

    def factor(values: Tensor) -> Tensor:
        covariance = values.mT @ values / (count - 1).clamp(min=1)
        variance = covariance.diagonal(dim1=-2, dim2=-1).mean(-1)[..., None, None]
        # The constant keeps a view that does not vary at all positive definite.
        identity = torch.eye(values.shape[-1], dtype=values.dtype, device=values.device)
        regular = covariance + (ridge * variance + 1e-8) * identity
        lower: Tensor = torch.linalg.cholesky_ex(regular).L  # without the check, which would wait for the device
        return lower

    left, right = centre(left), centre(right)
    cross = left.mT @ right / (count - 1).clamp(min=1)
    half = torch.linalg.solve_triangular(factor(left), cross, upper=False)
    whole = torch.linalg.solve_triangular(factor(right), half.mT, upper=False)
    result: Tensor = torch.linalg.matrix_norm(whole, "nuc")
    return result


class Canonical(FeatureFusion):
    """Concatenated projections with a loss that makes them correlate: deep CCA (Andrew 2013).

    F = [z_1, ..., z_M] with z_i = MLP_i(f_i) (W), zero where modality i is absent. In training,

        loss = -weight * mean over pairs i < j of corr(z_i, z_j) / W

    where corr is the sum of the W canonical correlations over the batch's rows that have both modalities, so that
    the mean is in [0, 1] for any W and M. A pair that W rows or fewer have counts as 0: so few correlate perfectly
    whatever they hold. So the batch has to be larger than `features`. The loss is computed in float32 (or float64).

    Pooled (B, D) of each modality; gives (B, M W).
    Cost: O(M D W) and, in training, O(M^2 (B W^2 + W^3)); M D W parameters.

    Args:
        inputs: name and feature size D of each modality.
        features: size of each modality's projection (W); smaller than the batch, or there is no loss.
        hidden: sizes of hidden layers of each projection; none for linear ones.
        weight: weight of the correlation loss.
        ridge: regularisation of the covariances, relative to the mean variance.
        dropout: share of values dropped after each hidden layer.
    """

    def __init__(
        self,
        inputs: Mapping[str, int],
        *,
        features: Size = 32,
        hidden: tuple[Size, ...] = (),
        weight: Annotated[float, Ge(0)] = 0.1,
        ridge: Annotated[float, Gt(0)] = 1e-3,
        dropout: Share = 0.1,
    ) -> None:
        super().__init__()
        self.features = features
        self.weight = weight
        self.ridge = ridge
        self.pairs = list(combinations(range(len(inputs)), 2))
        self.projections = nn.ModuleList(MLP(size, hidden, features, dropout) for size in inputs.values())
        self.out_features = len(inputs) * features

    def forward(self, features: Mapping[str, Features], present: Tensor) -> Features:
        """Fuse to (B, M W); in training, `losses` holds "canonical_correlation" if it has a weight and M > 1."""
        stacked = map_each(self.projections, pooled(features, present))
        stacked = torch.where(present.unsqueeze(-1), stacked, 0)
        losses = {}
        if self.training and self.weight and self.pairs:
            losses["canonical_correlation"] = self._loss(stacked, present)
        return Features(pooled=stacked.flatten(1), losses=losses)

    def _loss(self, stacked: Tensor, present: Tensor) -> Tensor:
        with torch.autocast(stacked.device.type, enabled=False):
            views = at_least_float32(stacked).unbind(1)
            left = torch.stack([views[i] for i, _ in self.pairs])
            right = torch.stack([views[j] for _, j in self.pairs])
            rows = torch.stack([present[:, i] & present[:, j] for i, j in self.pairs])
            correlation = canonical_correlation(left, right, rows, self.ridge) / self.features
            return -self.weight * torch.where(rows.sum(1) > self.features, correlation, 0).mean()
