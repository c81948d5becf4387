"""Learned latents that read the tokens of all modalities."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mmreg_fusion.feature_level.common import Size
from mmreg_fusion.feature_level.tokens import TokenFusion


class Perceiver(TokenFusion):
    """A few learned latents read all modalities' tokens by cross-attention: the Perceiver (Jaegle 2021).

    `num_layers` times: Z <- read(Z, context = all tokens), Z <- think(Z) (self-attention over the latents);
    F = mean of LN(Z) over the latents. The layers do not share weights.

    Tokens (B, T, D) of each modality, or pooled (B, D) as one token; gives (B, W).
    Cost with N latents and S tokens over all M modalities: O(L ((S + N) W^2 + N S W + N^2 W)), linear in S. The
    parameters grow with M by D W only.

    Args:
        features: size of every token and latent inside and of the result (W).
        num_latents: latents (N).
        num_layers: how often the latents read the tokens and then each other (L).

    Raises:
        OptionError: `features` is not a multiple of `num_heads`.
    """

    def __init__(self, inputs: Mapping[str, int], *, num_latents: Size = 8, **options: Any) -> None:
        super().__init__(inputs, **options)
        self.latents = nn.Parameter(0.02 * torch.randn(num_latents, self.width))
        self.read = self.attention_layers(self.num_layers)
        self.think = self.attention_layers(self.num_layers)
        self.norm = nn.LayerNorm(self.width)

    def fuse(self, tokens: list[Tensor], masks: list[Tensor]) -> Tensor:
        """See `TokenFusion`; gives (B, W)."""
        context, mask = torch.cat(tokens, 1), torch.cat(masks, 1)
        values = self.latents.expand(context.shape[0], -1, -1)
        every = torch.ones(values.shape[:2], dtype=torch.bool, device=values.device)
        for read, think in zip(self.read, self.think, strict=True):
            values = think(read(values, mask, context), every)
        fused: Tensor = self.norm(values).mean(1)
        return fused
