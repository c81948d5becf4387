"""A transformer over the tokens of all modalities."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmreg_fusion.feature_level.attention import AttentionStack
from mmreg_fusion.feature_level.tokens import TokenFusion


class Transformer(TokenFusion):
    """Self-attention over one sequence of all modalities' tokens, read at a learned CLS token.

    X = [CLS, E_1(tokens of f1), ..., E_M(tokens of fM)], where E adds modality and position embeddings;
    X <- layer(X), `num_layers` times; F = LN(X[CLS]). The encoder of Vaswani 2017 with pre-norm layers, read as in
    BERT (Devlin 2019).

    Tokens (B, T, D) of each modality, or pooled (B, D) as one token; gives (B, W).
    Cost with S tokens over all M modalities: O(L (S W^2 + S^2 W)) and S D W for the embedding. The parameters grow
    with M by D W only.

    Args:
        num_layers: transformer layers (L).

    Raises:
        OptionError: `features` is not a multiple of `num_heads`.
    """

    def __init__(self, inputs: Mapping[str, int], **options: Any) -> None:
        super().__init__(inputs, **options)
        self.cls = nn.Parameter(0.02 * torch.randn(self.width))
        self.layers = AttentionStack(self.attention_layers(self.num_layers))
        self.norm = nn.LayerNorm(self.width)

    def fuse(self, tokens: list[Tensor], masks: list[Tensor]) -> Tensor:
        """See `TokenFusion`; gives (B, W)."""
        values = torch.cat([self.cls.expand(tokens[0].shape[0], 1, -1), *tokens], 1)
        mask = F.pad(torch.cat(masks, 1), (1, 0), value=True)
        fused: Tensor = self.norm(self.layers(values, mask)[:, 0])
        return fused
