"""Learned latents that read the tokens of all modalities."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge
from torch import Tensor, nn

from mmreg import FeatureFusion, Features, Outputs
from mmreg_fusion.feature_level.common import Share, Size
from mmreg_fusion.feature_level.tokens import AttentionLayer, TokenEmbedding


class Perceiver(FeatureFusion):
    """A few learned latents read all modalities' tokens by cross-attention: the Perceiver (Jaegle 2021).

    `num_layers` times: Z <- read(Z, context = all tokens), Z <- think(Z) (self-attention over the latents);
    F = mean of LN(Z) over the latents. The layers do not share weights.

    Tokens (B, T, D) of each modality, or pooled (B, D) as one token; gives (B, W).
    Cost with N latents and S tokens over all M modalities: O(L ((S + N) W^2 + N S W + N^2 W)), linear in S. The
    parameters grow with M by D W only.

    Args:
        inputs: name and token size D of each modality.
        features: size of every token and latent inside and of the result (W).
        num_latents: latents (N).
        num_heads: attention heads of each layer; `features` is a multiple of them.
        num_layers: how often the latents read the tokens and then each other (L).
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
        num_latents: Size = 8,
        num_heads: Size = 4,
        num_layers: Size = 2,
        dropout: Share = 0.1,
        absent_token: bool = False,
    ) -> None:
        super().__init__()
        self.out_features = features
        self.embedding = TokenEmbedding(inputs, features, absent_token)
        self.latents = nn.Parameter(0.02 * torch.randn(num_latents, features))
        self.read = nn.ModuleList(AttentionLayer(features, num_heads, dropout) for _ in range(num_layers))
        self.think = nn.ModuleList(AttentionLayer(features, num_heads, dropout) for _ in range(num_layers))
        self.norm = nn.LayerNorm(features)

    def forward(self, features: Mapping[str, Features], present: Tensor) -> Features:
        """Fuse to (B, W)."""
        embedded = self.embedding(features, present)
        context = torch.cat([tokens for tokens, _ in embedded], 1)
        mask = torch.cat([valid for _, valid in embedded], 1)
        values = self.latents.expand(len(present), -1, -1)
        every = torch.ones(values.shape[:2], dtype=torch.bool, device=values.device)
        for read, think in zip(self.read, self.think, strict=True):
            values = think(read(values, mask, context), every)
        return Features(pooled=self.norm(values).mean(1))
