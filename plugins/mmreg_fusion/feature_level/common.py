"""What the feature-level operators share: stacking named features, ignoring absent ones, projecting each."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mmreg.signals import Features


def pooled(features: Mapping[str, Features], present: Tensor) -> list[Tensor]:
    """Each modality's (B, D) vectors in order, those of absent rows replaced by zeros."""
    vectors = []
    for index, feature in enumerate(features.values()):
        assert feature.pooled is not None
        vectors.append(torch.where(present[:, index, None], feature.pooled, 0))
    return vectors


class Projections(nn.Module):
    """A linear map of each modality's vector to one width.

    Args:
        inputs: name and feature size D of each modality.
        features: the common width.
        bias: whether the maps have a bias.
    """

    def __init__(self, inputs: Mapping[str, int], features: int, bias: bool = True) -> None:
        super().__init__()
        self.maps = nn.ModuleList(nn.Linear(size, features, bias=bias) for size in inputs.values())

    def forward(self, features: Mapping[str, Features], present: Tensor) -> Tensor:
        """Project to (B, M, features); absent rows come out as zeros, whatever they held."""
        vectors = pooled(features, present)
        stacked = torch.stack([layer(vector) for layer, vector in zip(self.maps, vectors, strict=True)], 1)
        return torch.where(present.unsqueeze(-1), stacked, 0)
