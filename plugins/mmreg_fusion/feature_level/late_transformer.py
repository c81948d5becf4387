"""One small transformer over what the encoders give: a plain baseline for whatever is more elaborate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mmreg import Features
from mmreg.layers import masked_mean
from mmreg_fusion.feature_level.attention import AttentionStack
from mmreg_fusion.feature_level.common import Size
from mmreg_fusion.feature_level.tokens import TokenFusion, token_inputs


class LateTransformer(TokenFusion):
    """Every modality's tokens on one scale, through one small transformer, averaged by modality.

    X = [E_1(tokens of f1), ..., E_M(tokens of fM)] with E_i(t) = LN_i(W_i t + b_i) + position; X <- layer(X),
    `num_layers` times; F = LN of the mean over the modalities present of the mean over each one's tokens (of zeros
    where there is none). It is the late-fusion transformer SimBaMM of "Fusion or Confusion?" (Rheude 2025,
    arXiv:2512.22991), which 19 more elaborate methods did not reliably outperform there; with `single_token` its
    variant of one token a modality. Tokens of absent modalities are masked.

    Beside `transformer`, a layer norm brings each modality to one scale (its bias is the modality embedding), and the
    mean by modality gives a short sequence the weight of a long one, where a CLS token has to learn to. Positions are
    sinusoids, counted within each modality, so there is no longest sequence.

    Tokens (B, T, D) of each modality, or pooled (B, D) as one token; gives (B, W).
    Cost with S tokens over all M modalities: O(L (S W^2 + S^2 W)) and S D W for the embedding. The parameters grow
    with M by D W only.

    Args:
        feedforward: hidden size of each layer's feed-forward network.
        single_token: whether each modality is one token, the mean of its own: for long sequences.

    Raises:
        OptionError: `features` is not a multiple of `num_heads`.
    """

    normalizes: ClassVar[bool] = True

    def __init__(
        self, inputs: Mapping[str, int], *, feedforward: Size = 256, single_token: bool = False, **options: Any
    ) -> None:
        super().__init__(inputs, **options)
        self.single_token = single_token
        self.layers = AttentionStack(self.attention_layers(self.num_layers, feedforward))
        self.norm = nn.LayerNorm(self.width)

    def forward(self, features: Mapping[str, Features], present: Tensor) -> Features:
        """See `TokenFusion`."""
        if self.single_token:
            means = [masked_mean(tokens, mask) for tokens, mask in token_inputs(features, present)]
            features = {name: Features(pooled=mean) for name, mean in zip(features, means, strict=True)}
        return super().forward(features, present)

    def fuse(self, tokens: list[Tensor], masks: list[Tensor]) -> Tensor:
        """See `TokenFusion`; gives (B, W)."""
        values = self.layers(torch.cat(tokens, 1), torch.cat(masks, 1))
        parts = values.split([mask.shape[1] for mask in masks], 1)
        means = torch.stack([masked_mean(part, mask) for part, mask in zip(parts, masks, strict=True)], 1)
        takes_part = torch.stack([mask.any(1) for mask in masks], 1)
        fused: Tensor = self.norm(masked_mean(means, takes_part))
        return fused
