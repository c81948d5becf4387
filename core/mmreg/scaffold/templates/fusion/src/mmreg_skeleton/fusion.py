"""A fusion operator: from several modalities' features to one vector.

Axes: B batch, D features, M modalities.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor, nn

from mmreg import FeatureFusion, Features
from mmreg.layers import masked_softmax


class SkeletonFusion(FeatureFusion):
    """A sum of projections with a learned weight a modality: F = sum_i a_i (W_i x_i + b_i).

    The weights a are a softmax over the modalities that a row has, of one learned number each.

    Args:
        features: the width to which each modality is projected, and of the result.
    """

    def __init__(self, inputs: Mapping[str, int], *, features: Annotated[int, Ge(1)] = 128) -> None:
        super().__init__()
        self.projections = nn.ModuleList(nn.Linear(size, features) for size in inputs.values())
        # A softmax over one modality is 1, whatever its number is.
        self.importance = nn.Parameter(torch.zeros(len(inputs))) if len(inputs) > 1 else None
        self.out_features = features

    def forward(self, features: Mapping[str, Features], present: Tensor) -> Features:
        """Fuse M times (B, D) with present (B, M) bool to (B, features)."""
        vectors = []
        for index, (feature, projection) in enumerate(zip(features.values(), self.projections, strict=True)):
            assert feature.pooled is not None
            # What is absent may hold anything, and must have no influence.
            vectors.append(projection(torch.where(present[:, index, None], feature.pooled, 0)))
        projected = torch.stack(vectors, 1)
        if self.importance is None:
            weights = present.to(projected.dtype)
        else:
            weights = masked_softmax(self.importance.expand(present.shape), present, dim=1)
        return Features(torch.einsum("bm,bmd->bd", weights.to(projected.dtype), projected))
