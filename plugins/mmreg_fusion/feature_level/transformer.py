"""A transformer over the tokens of all modalities."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge
from torch import Tensor, nn
from torch.nn import functional as F

from mmreg import FeatureFusion, Features, Outputs
from mmreg_fusion.feature_level.common import Share, Size
from mmreg_fusion.feature_level.tokens import AttentionStack, TokenEmbedding


class Transformer(FeatureFusion):
    """Self-attention over one sequence of all modalities' tokens, read at a learned CLS token.

    X = [CLS, E_1(tokens of f1), ..., E_M(tokens of fM)], where E adds modality and position embeddings;
    X <- layer(X), `num_layers` times; F = LN(X[CLS]). The encoder of Vaswani 2017 with pre-norm layers, read as in
    BERT (Devlin 2019).

    Tokens (B, T, D) of each modality, or pooled (B, D) as one token; gives (B, W).
    Cost with S tokens over all M modalities: O(L (S W^2 + S^2 W)) and S D W for the embedding. The parameters grow
    with M by D W only.

    Args:
        inputs: name and token size D of each modality.
        features: size of every token inside and of the result (W).
        num_heads: attention heads of each layer; `features` is a multiple of them.
        num_layers: transformer layers (L).
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
        num_layers: Size = 2,
        dropout: Share = 0.1,
        absent_token: bool = False,
    ) -> None:
        super().__init__()
        self.out_features = features
        self.embedding = TokenEmbedding(inputs, features, absent_token)
        self.cls = nn.Parameter(0.02 * torch.randn(features))
        self.layers = AttentionStack(features, num_heads, num_layers, dropout)
        self.norm = nn.LayerNorm(features)

    def forward(self, features: Mapping[str, Features], present: Tensor) -> Features:
        """Fuse to (B, W)."""
        embedded = self.embedding(features, present)
        values = torch.cat([self.cls.expand(len(present), 1, -1), *(tokens for tokens, _ in embedded)], 1)
        mask = F.pad(torch.cat([valid for _, valid in embedded], 1), (1, 0), value=True)
        return Features(pooled=self.norm(self.layers(values, mask)[:, 0]))
