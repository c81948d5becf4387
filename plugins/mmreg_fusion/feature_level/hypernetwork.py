"""One modality generates the layer that is applied to the others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge
from torch import Tensor, nn

from mmreg import FeatureFusion, Features
from mmreg.layers import at_least_float32
from mmreg_fusion.feature_level.common import Size, pooled
from mmreg_fusion.precision import narrow


class HyperNetwork(FeatureFusion):
    """The first modality generates weights and bias of a layer for each other one (Ha 2017, Jayakumar 2020).

    For each further modality j, with h_j = P_j f_j (W):

        y_j = W_j(f1) h_j + b_j(f1),  W_j(f1) = I + s A_j(f1) B_j(f1)^T

    where A and B (W, R) and b (W) are linear maps of f1 with a bias, and s = 1 / sqrt(W R) keeps y at the scale of h.
    With `rank` 0 the whole matrix is generated: W_j(f1) = I + s G_j(f1) with G (W, W) and s = 1 / sqrt(W).
    F = [y_2, ..., y_M]. The identity stands for the part of W_j that does not depend on f1 (P_j is learned anyway);
    without it the features would arrive through random matrices, and learning from them takes far more rows.

    Ordered: which modality comes first has a meaning. With a single modality, the layer is applied to itself. Where
    the first is absent its vector counts as zero, so that the learned biases give a layer; where another is absent,
    h is zero and its part is b_j(f1), which still carries the first. The generated layer is applied in float32 (or
    float64), as its result has the third power of the features' scale (the second with rank 0), too much for float16.

    Pooled (B, D) of each modality; gives (B, max(M - 1, 1) W).
    Cost and parameters: O(M D W R), with rank 0 O(M D W^2).

    Args:
        inputs: name and feature size D of each modality; the first one conditions the others.
        features: size of the projections and of each generated layer (W).
        rank: rank of the generated matrices (R); 0 generates them in full.
    """

    ordered: ClassVar[bool] = True

    def __init__(self, inputs: Mapping[str, int], *, features: Size = 64, rank: Annotated[int, Ge(0)] = 4) -> None:
        super().__init__()
        first, *others = inputs.values()
        self.shape = (2, features, rank) if rank else (1, features, features)
        self.scale = (features * (rank or 1)) ** -0.5
        # A single modality is its own target.
        self.targets = range(1, len(inputs)) if others else range(1)
        self.projections = nn.ModuleList(nn.Linear(size, features) for size in others or [first])
        self.weights = nn.ModuleList(
            nn.Linear(first, self.shape[0] * self.shape[1] * self.shape[2]) for _ in self.targets
        )
        self.biases = nn.ModuleList(nn.Linear(first, features) for _ in self.targets)
        self.out_features = len(self.targets) * features

    def forward(self, features: Mapping[str, Features], present: Tensor) -> Features:
        """Fuse to (B, max(M - 1, 1) W)."""
        vectors = pooled(features, present)
        layers = zip(self.targets, self.projections, self.weights, self.biases, strict=True)
        fused = []
        for target, project, weight, bias in layers:
            hidden = torch.where(present[:, target, None], project(vectors[target]), 0)
            shift = bias(vectors[0])
            result = self._apply_layer(weight(vectors[0]).unflatten(1, self.shape), hidden) + shift
            fused.append(narrow(result, shift.dtype))
        return Features(pooled=torch.cat(fused, 1))

    def _apply_layer(self, matrices: Tensor, hidden: Tensor) -> Tensor:
        """Identity plus the generated matrix, or product of two, (B, 1 or 2, W, W or R), times hidden (B, W)."""
        with torch.autocast(hidden.device.type, enabled=False):
            matrices, hidden = at_least_float32(matrices), at_least_float32(hidden)
            inner = torch.einsum("bir,bi->br", matrices[:, 1], hidden) if self.shape[0] == 2 else hidden
            result: Tensor = hidden + self.scale * torch.einsum("bor,br->bo", matrices[:, 0], inner)
            return result
