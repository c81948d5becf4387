"""Crossmodal attention between every ordered pair of modalities."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from itertools import permutations
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge
from torch import Tensor, nn

from mmreg import FeatureFusion, Features, Outputs
from mmreg.layers import masked_mean
from mmreg_fusion.feature_level.common import Share, Size
from mmreg_fusion.feature_level.tokens import AttentionStack, TokenEmbedding


class CrossAttention(FeatureFusion):
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
        inputs: name and token size D of each modality.
        features: size of every token inside (W).
        num_heads: attention heads of each layer; `features` is a multiple of them.
        num_layers: layers for each pair of modalities, and again for each target (L).
        dropout: share of values dropped in each layer.
        absent_token: whether an absent modality is represented by a learned token instead of being left out.

    Raises:
        OptionError: `features` is not a multiple of `num_heads`.
    """

    takes: ClassVar[Outputs] = "tokens"

    def __init__(
        self,
        inputs: Mapping[str, int],
        *,
        features: Annotated[int, Ge(2)] = 64,
        num_heads: Size = 4,
        num_layers: Size = 1,
        dropout: Share = 0.1,
        absent_token: bool = False,
    ) -> None:
        super().__init__()
        count = len(inputs)
        self.out_features = count * features
        self.pairs = list(permutations(range(count), 2)) or [(0, 0)]
        stack = partial(AttentionStack, features, num_heads, num_layers, dropout)
        self.embedding = TokenEmbedding(inputs, features, absent_token)
        self.cross = nn.ModuleList(stack() for _ in self.pairs)
        self.merge = nn.ModuleList(nn.Linear(max(count - 1, 1) * features, features) for _ in inputs)
        self.memory = nn.ModuleList(stack() for _ in inputs)
        self.norm = nn.LayerNorm(features)

    def forward(self, features: Mapping[str, Features], present: Tensor) -> Features:
        """Fuse to (B, M W)."""
        embedded = self.embedding(features, present)
        readings: list[list[Tensor]] = [[] for _ in embedded]
        for (target, source), cross in zip(self.pairs, self.cross, strict=True):
            context, valid = embedded[source]
            readings[target].append(cross(embedded[target][0], valid, context))
        fused = []
        for (_, mask), parts, merge, memory in zip(embedded, readings, self.merge, self.memory, strict=True):
            values = memory(merge(torch.cat(parts, -1)), mask)
            fused.append(masked_mean(self.norm(values), mask))
        return Features(pooled=torch.cat(fused, 1))
