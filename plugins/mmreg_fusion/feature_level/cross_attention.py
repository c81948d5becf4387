"""Crossmodal attention between every ordered pair of modalities."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import permutations
from typing import Any

import torch
from torch import Tensor, nn

from mmreg.layers import masked_mean
from mmreg_fusion.feature_level.attention import AttentionStack
from mmreg_fusion.feature_level.common import Depth
from mmreg_fusion.feature_level.tokens import TokenFusion


class CrossAttention(TokenFusion):
    """Every modality attends to every other: the multimodal transformer MulT (Tsai 2019).

    For each target i and source j: Z_ij = x_i, then `num_layers` times Z_ij <- layer_ij(Z_ij, context = x_j).
    For each target: Z_i = P_i [Z_ij over all j], then `num_layers` self-attention layers, and the mean of LN(Z_i) over
    the target's valid tokens. F is these M means side by side; that of an absent target is zero, and from an absent
    source nothing is read. With a single modality the source is the target itself.

    Other than in MulT, P_i brings the M - 1 readings back to width W, so that the self-attention's cost does not grow
    with the cube of M, and the mean stands in for the last token, which suits encoders that read both ways.

    Tokens (B, T, D) of each modality, or pooled (B, D) as one token; gives (B, M W).
    Cost: O(M^2 L (T W^2 + T^2 W)), and M^2 L W^2 parameters.

    Args:
        features: size of every token inside (W).
        num_layers: layers for each pair of modalities, and again for each target (L).

    Raises:
        OptionError: `features` is not a multiple of `num_heads`.
    """

    def __init__(self, inputs: Mapping[str, int], *, num_layers: Depth = 1, **options: Any) -> None:
        super().__init__(inputs, num_layers=num_layers, **options)
        count = len(inputs)
        self.out_features = count * self.width
        self.pairs = list(permutations(range(count), 2)) or [(0, 0)]
        self.cross = nn.ModuleList(AttentionStack(self.attention_layers(num_layers)) for _ in self.pairs)
        self.merge = nn.ModuleList(nn.Linear(max(count - 1, 1) * self.width, self.width) for _ in inputs)
        self.memory = nn.ModuleList(AttentionStack(self.attention_layers(num_layers)) for _ in inputs)
        self.norm = nn.LayerNorm(self.width)

    def fuse(self, tokens: list[Tensor], masks: list[Tensor]) -> Tensor:
        """See `TokenFusion`; gives (B, M W)."""
        readings: list[list[Tensor]] = [[] for _ in tokens]
        for (target, source), cross in zip(self.pairs, self.cross, strict=True):
            readings[target].append(cross(tokens[target], masks[source], tokens[source]))
        fused = []
        for mask, parts, merge, memory in zip(masks, readings, self.merge, self.memory, strict=True):
            values = memory(merge(torch.cat(parts, -1)), mask)
            fused.append(masked_mean(self.norm(values), mask))
        return torch.cat(fused, 1)
