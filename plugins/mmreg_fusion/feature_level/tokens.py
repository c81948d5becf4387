"""What the token operators share: options, and one embedding of every modality's tokens.

Axes: B batch, T tokens, D features, M modalities, W the common width.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge
from torch import Tensor, nn

from mmreg import FeatureFusion, Features, Outputs
from mmreg_fusion.feature_level.attention import AttentionLayer
from mmreg_fusion.feature_level.common import Depth, Share, Size


def token_inputs(features: Mapping[str, Features], present: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Each modality's tokens (B, T, D) and which are valid, (B, T) bool; the others are replaced by zeros.

    A modality that gives no tokens counts as a sequence of one: its pooled vector. An absent one has no valid token.
    """
    inputs = []
    for index, feature in enumerate(features.values()):
        here = present[:, index, None]
        if feature.tokens is None:
            assert feature.pooled is not None
            tokens, mask = feature.pooled[:, None], here
        else:
            tokens = feature.tokens
            mask = here.expand(tokens.shape[:2]) if feature.mask is None else feature.mask & here
        inputs.append((torch.where(mask.unsqueeze(-1), tokens, 0), mask))
    return inputs


def sinusoids(size: int, width: int, like: Tensor) -> Tensor:
    """Position embeddings (size, width) for sequences of any length (Vaswani 2017).

    Position t gets sin(t / 10000^(2i/W)) for i below W/2, followed by the cosines; in the dtype and on the device of
    `like`, computed in float32 or wider.
    """
    dtype = torch.float64 if like.dtype == torch.float64 else torch.float32
    half = (width + 1) // 2
    rates = torch.exp(torch.arange(half, device=like.device, dtype=dtype) * (-2 * math.log(10000) / width))
    angles = torch.arange(size, device=like.device, dtype=dtype)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], 1)[:, :width].to(like.dtype)


class TokenEmbedding(nn.Module):
    """Brings all modalities' tokens to one width: a linear map and a modality embedding of each, plus the position.

    The linear map's bias is the modality embedding: it is added to every token of that modality and to no other.

    Args:
        inputs: name and feature size D of each modality.
        width: W.
        absent_token: whether each modality gets a learned token that stands for it where it is absent.
        normalize: whether a layer norm of each modality follows its map.
    """

    def __init__(self, inputs: Mapping[str, int], width: int, absent_token: bool, normalize: bool = False) -> None:
        super().__init__()
        self.maps = nn.ModuleList(nn.Linear(size, width) for size in inputs.values())
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in inputs) if normalize else None
        self.absent = nn.ParameterList(0.02 * torch.randn(width) for _ in inputs) if absent_token else None

    def forward(self, features: Mapping[str, Features], present: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Each modality's tokens (B, T, W), and which are valid, (B, T) bool.

        What the others hold is finite and depends on the parameters alone. With `absent_token` the sequences begin
        with a further token, valid in exactly the rows that lack the modality.
        """
        embedded, masks = [], []
        positions = [each.positions for each in features.values()]
        for index, (layer, (tokens, mask)) in enumerate(zip(self.maps, token_inputs(features, present), strict=True)):
            values = layer(tokens)
            if self.norms is not None:
                values = self.norms[index](values)
            places, own = sinusoids(values.shape[1], values.shape[2], values), positions[index]
            values = values + (places if own is None else places[own])
            if self.absent is not None:
                values = torch.cat([self.absent[index].expand(values.shape[0], 1, -1), values], 1)
                mask = torch.cat([~present[:, index, None], mask], 1)
            embedded.append(values)
            masks.append(mask)
        return embedded, masks


class TokenFusion(FeatureFusion):
    """The base of the operators that consist of attention layers over all modalities' tokens.

    A subclass makes its layers by `attention_layers`, and says in `fuse` what they do with the embedded tokens. Its
    constructor names the options that it adds or declares anew, and hands on the others.

    Args:
        inputs: name and token size D of each modality.
        features: size of every token inside and of the result (W).
        num_heads: attention heads of each layer; `features` is a multiple of them.
        num_layers: attention layers, one after the other (L).
        dropout: share of values dropped in each layer.
        absent_token: whether an absent modality is represented by a learned token instead of being left out.
    """

    normalizes: ClassVar[bool] = False
    """Whether each modality's embedded tokens pass a layer norm of its own."""
    takes: ClassVar[Outputs] = "tokens"

    def __init__(
        self,
        inputs: Mapping[str, int],
        *,
        features: Annotated[int, Ge(2)] = 64,
        num_heads: Size = 4,
        num_layers: Depth = 2,
        dropout: Share = 0.1,
        absent_token: bool = False,
    ) -> None:
        super().__init__()
        self.width = self.out_features = features
        self.num_heads = num_heads
        self.num_layers = num_layers
        self.dropout = dropout
        self.embedding = TokenEmbedding(inputs, features, absent_token, self.normalizes)

    def attention_layers(self, count: int, feedforward: int | None = None) -> nn.ModuleList:
        """New attention layers of the operator's width, heads and dropout, and of this width inside (4 W if not given).

        Raises:
            OptionError: `features` is not a multiple of `num_heads`.
        """
        return nn.ModuleList(
            AttentionLayer(self.width, self.num_heads, self.dropout, feedforward) for _ in range(count)
        )

    @abstractmethod
    def fuse(self, tokens: list[Tensor], masks: list[Tensor]) -> Tensor:
        """Each modality's tokens (B, T, W) and which are valid, (B, T) bool, to (B, out_features)."""

    def forward(self, features: Mapping[str, Features], present: Tensor) -> Features:
        """Fuse tokens (B, T, D), or pooled vectors (B, D), with present (B, M) bool to (B, out_features)."""
        return Features(pooled=self.fuse(*self.embedding(features, present)))
