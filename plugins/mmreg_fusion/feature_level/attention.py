"""Attention layers that ignore padding, and whose queries may attend to nothing.

Axes: B batch, Q queries, T tokens, W width.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from mmreg.errors import OptionError
from mmreg.layers import MLP


class MultiHeadAttention(nn.Module):
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
    """A pre-norm transformer layer (Xiong 2020): y = x + A(LN x, LN c), then y + FFN(LN' y).

    The context c is x itself (self-attention) or another sequence (cross-attention); one norm serves both.
    Cost for Q queries and T tokens: O((Q + T) W^2 + Q T W).

    Args:
        width: W.
        num_heads: heads.
        dropout: the share of values dropped in the feed-forward network and on both residual branches.
        feedforward: the hidden width of that network; 4 W if not given.
    """

    def __init__(self, width: int, num_heads: int, dropout: float, feedforward: int | None = None) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = MultiHeadAttention(width, num_heads)
        self.feedforward_norm = nn.LayerNorm(width)
        self.feedforward = MLP(width, [feedforward or 4 * width], width, dropout)
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
        layers: of one width.
    """

    def __init__(self, layers: nn.ModuleList) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, values: Tensor, mask: Tensor, context: Tensor | None = None) -> Tensor:
        """As in `AttentionLayer`."""
        for layer in self.layers:
            values = layer(values, mask, context)
        return values
