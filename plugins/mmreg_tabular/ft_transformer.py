"""A transformer over a token for each column of a row.

Axes: B batch, N numbers, C categories, T tokens (N + C of the columns), D features.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import torch
from annotated_types import Ge, Le, Lt
from torch import Tensor, nn
from torch.nn import functional

from mmreg import Encoder, Features, Outputs, Signal, Spec
from mmreg.errors import OptionError, SpecError
from mmreg_tabular.embeddings import ColumnEmbeddings, count, refusal

MAX_COLUMNS = 500
"""A batch of 64 rows takes some 6 GB with as many."""


class FTTransformer(Encoder):
    """FT-Transformer (Gorishniy et al. 2021): a token a column, attention between them, read at a token of its own.

    Layers are normalised before attention and before a feed-forward part with ReGLU; the first layer's attention sees
    the tokens as they are.

    Args:
        spec: "numbers", "missing" and "categories".
        features: D, the size of what it gives (of each token, if asked for tokens).
        hidden_size: the size of a token within; a multiple of `num_heads`.
        num_layers: how many layers.
        num_heads: how many heads the attention has.
        attention_dropout: the share of attention weights dropped.
        dropout: the share of values dropped within the feed-forward part.
        max_columns: how many columns it takes at most: attention takes time and memory by the square of them.
        outputs: "pooled", or "tokens" for one vector a column.

    Raises:
        SpecError: from a spec that `accepts` refuses.
        OptionError: `hidden_size` is no multiple of `num_heads`.
    """

    multiple_arrays = True
    provides: ClassVar[frozenset[Outputs]] = frozenset({"pooled", "tokens"})

    def __init__(
        self,
        spec: Mapping[str, Spec],
        *,
        features: Annotated[int, Ge(1)] = 128,
        hidden_size: Annotated[int, Ge(1)] = 128,
        num_layers: Annotated[int, Ge(1), Le(100)] = 3,
        num_heads: Annotated[int, Ge(1)] = 8,
        attention_dropout: Annotated[float, Ge(0), Lt(1)] = 0.2,
        dropout: Annotated[float, Ge(0), Lt(1)] = 0.1,
        max_columns: Annotated[int, Ge(1)] = MAX_COLUMNS,
        outputs: Outputs = "pooled",
    ) -> None:
        super().__init__()
        if reason := self.accepts(spec, {"max_columns": max_columns}):
            raise SpecError(f"ft_transformer does not take what it gets: {reason}")
        if hidden_size % num_heads:
            raise OptionError(f"hidden_size: must be a multiple of num_heads ({num_heads}), found {hidden_size}")
        self.embeddings = ColumnEmbeddings(spec, hidden_size, "linear", 1, 1.0)
        self.bias = nn.Parameter(torch.zeros(self.embeddings.columns, hidden_size))
        bound = hidden_size**-0.5
        self.read = nn.Parameter(torch.empty(hidden_size).uniform_(-bound, bound)) if outputs == "pooled" else None
        self.layers = nn.ModuleList(
            Layer(hidden_size, num_heads, attention_dropout, dropout, first=number == 0) for number in range(num_layers)
        )
        self.norm = nn.LayerNorm(hidden_size)
        self.linear = nn.Linear(hidden_size, features)
        self.out_features = features

    @classmethod
    def accepts(cls, spec: Spec | Mapping[str, Spec], options: Mapping[str, Any]) -> str | None:
        """It takes what the tabular modality gives, of so many columns."""
        if reason := refusal(spec):
            return reason
        assert not isinstance(spec, Spec)
        columns, most = count(spec, "numbers") + count(spec, "categories"), options.get("max_columns", MAX_COLUMNS)
        if columns <= most:
            return None
        return (
            f"its attention takes time and memory by the square of the columns: up to {most:,} (max_columns), found "
            f"{columns:,}; tabular_mlp takes any number of them"
        )

    def forward(self, signal: Signal[Any]) -> Features:
        """Encode numbers (B, N) and categories (B, C) to pooled (B, D), or to tokens (B, T, D)."""
        tokens = self.embeddings(signal) + self.bias
        if self.read is not None:
            tokens = torch.cat([self.read.to(tokens.dtype).expand(tokens.shape[0], 1, -1), tokens], 1)
        for layer in self.layers:
            tokens = layer(tokens)
        if self.read is None:
            return Features(tokens=self.linear(self.norm(tokens).relu()))
        return Features(pooled=self.linear(self.norm(tokens[:, 0]).relu()))


class Layer(nn.Module):
    """Attention, then a feed-forward part with ReGLU (Shazeer 2020), each added to what it is given.

    Args:
        size: of a token.
        num_heads: of the attention.
        attention_dropout: the share of attention weights dropped.
        dropout: the share of values dropped in the feed-forward part.
        first: whether tokens come without a norm.
    """

    def __init__(self, size: int, num_heads: int, attention_dropout: float, dropout: float, first: bool) -> None:
        super().__init__()
        self.attention_norm = nn.Identity() if first else nn.LayerNorm(size)
        self.attention = nn.MultiheadAttention(size, num_heads, attention_dropout, batch_first=True)
        self.norm = nn.LayerNorm(size)
        inner = max(1, size * 4 // 3)
        self.up, self.down = nn.Linear(size, 2 * inner), nn.Linear(inner, size)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, T, size) to the same."""
        normed = self.attention_norm(tokens)
        tokens = tokens + self.attention(normed, normed, normed, need_weights=False)[0]
        gate, value = self.up(self.norm(tokens)).chunk(2, -1)
        mixed: Tensor = tokens + self.down(self.dropout(functional.relu(gate) * value))
        return mixed
