"""What the token operators share: one embedding of every modality's tokens, and attention layers that ignore padding.

Axes: B batch, T tokens, D features, M modalities, W the common width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmreg import Features
from mmreg.errors import OptionError
from mmreg.layers import MLP


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
    """

    def __init__(self, inputs: Mapping[str, int], width: int, absent_token: bool) -> None:
        super().__init__()
        self.maps = nn.ModuleList(nn.Linear(size, width) for size in inputs.values())
        self.absent = nn.ParameterList(0.02 * torch.randn(width) for _ in inputs) if absent_token else None

    def forward(self, features: Mapping[str, Features], present: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Each modality's tokens (B, T, W) and which are valid, (B, T) bool.

        What the others hold is finite and depends on the parameters alone. With `absent_token` the sequences begin
        with a further token, valid in exactly the rows that lack the modality.
        """
        embedded = []
        for index, (layer, (tokens, mask)) in enumerate(zip(self.maps, token_inputs(features, present), strict=True)):
            values = layer(tokens)
            values = values + sinusoids(values.shape[1], values.shape[2], values)
            if self.absent is not None:
                values = torch.cat([self.absent[index].expand(len(values), 1, -1), values], 1)
                mask = torch.cat([~present[:, index, None], mask], 1)
            embedded.append((values, mask))
        return embedded


class Attention(nn.Module):
    """Multi-head scaled dot-product attention (Vaswani 2017) in which a query may also attend to nothing.

    A(Q, C) = softmax([q k^T, 0] / sqrt(W / heads)) [v; 0]: a further key and value of zeros, as with `add_zero_attn`
    of `torch.nn.MultiheadAttention`. So a context without a valid token gives zero instead of NaN, and a context of a
    single token is still weighed. Keys have no bias.

    Args:
        width: W, a multiple of `num_heads`.
        num_heads: heads.
    """

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        if width % num_heads:
            raise OptionError(
                f"features is {width} and num_heads is {num_heads}, but the heads share the features equally: "
                f"choose features that are a multiple of num_heads"
            )
        self.num_heads = num_heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width)
        self.output = nn.Linear(width, width)

    def forward(self, queries: Tensor, context: Tensor, mask: Tensor) -> Tensor:
        """What queries (B, Q, W) read from a context (B, T, W) with mask (B, T) bool: (B, Q, W)."""
        heads = (self.num_heads, -1)
        query = self.query(queries).unflatten(-1, heads).transpose(1, 2)
        key = F.pad(self.key(context).unflatten(-1, heads).transpose(1, 2), (0, 0, 0, 1))
        value = F.pad(self.value(context).unflatten(-1, heads).transpose(1, 2), (0, 0, 0, 1))
        mask = F.pad(mask, (0, 1), value=True)[:, None, None]
        read = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        result: Tensor = self.output(read.transpose(1, 2).flatten(2))
        return result


class AttentionLayer(nn.Module):
    """A pre-norm transformer layer (Xiong 2020): y = x + A(LN x, LN c), then y + FFN(LN' y), FFN of width 4 W.

    The context c is x itself (self-attention) or another sequence (cross-attention); one norm serves both.
    Cost for Q queries and T tokens: O((Q + T) W^2 + Q T W).

    Args:
        width: W.
        num_heads: heads.
        dropout: the share of values dropped in the feed-forward network and on both residual branches.
    """

    def __init__(self, width: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = Attention(width, num_heads)
        self.feedforward_norm = nn.LayerNorm(width)
        self.feedforward = MLP(width, [4 * width], width, dropout)
        self.dropout = nn.Dropout(dropout)

    def forward(self, values: Tensor, mask: Tensor, context: Tensor | None = None) -> Tensor:
        """Update (B, Q, W) from a context (B, T, W); None for itself. The mask (B, T) bool is the context's."""
        queries = self.attention_norm(values)
        context = queries if context is None else self.attention_norm(context)
        values = values + self.dropout(self.attention(queries, context, mask))
        result: Tensor = values + self.dropout(self.feedforward(self.feedforward_norm(values)))
        return result


class AttentionStack(nn.Module):
    """Attention layers one after the other, all with the same context (or none, for self-attention).

    Args:
        width: W.
        num_heads: heads.
        num_layers: layers.
        dropout: as in `AttentionLayer`.
    """

    def __init__(self, width: int, num_heads: int, num_layers: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(AttentionLayer(width, num_heads, dropout) for _ in range(num_layers))

    def forward(self, values: Tensor, mask: Tensor, context: Tensor | None = None) -> Tensor:
        """As in `AttentionLayer`."""
        for layer in self.layers:
            values = layer(values, mask, context)
        return values
