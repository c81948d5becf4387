"""The layers of a transformer whose positions are rotations (Su 2021), and an encoder that ends with them.

Axes: B batch, T steps, H heads, D features.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmreg import Encoder, Features, Outputs
from mmreg.errors import OptionError
from mmreg.layers import Pooling, SequencePool

BASE = 10_000.0
"""Of rotary positions: the longest wave is about so many steps long."""


class RotaryTransformer(Encoder):
    """Encodes steps by a transformer; a subclass makes the steps."""

    provides: ClassVar[frozenset[Outputs]] = frozenset({"pooled", "tokens"})

    def make_layers(
        self,
        hidden_size: int,
        num_layers: int,
        num_heads: int,
        inner: int,
        dropout: float,
        pooling: Pooling,
        outputs: Outputs,
        features: int,
    ) -> None:
        """Make all that comes after the steps; see the options of the subclasses.

        Raises:
            OptionError: `hidden_size` is no even multiple of `num_heads`.
        """
        if hidden_size % (2 * num_heads):
            raise OptionError(f"hidden_size: must be an even multiple of num_heads ({num_heads}), found {hidden_size}")
        self.head_size = hidden_size // num_heads
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(Layer(hidden_size, num_heads, inner, dropout) for _ in range(num_layers))
        self.norm = nn.LayerNorm(hidden_size)
        self.pool = SequencePool(hidden_size, pooling) if outputs == "pooled" else None
        self.linear = nn.Linear(hidden_size, features)
        self.out_features = features

    def encoded(self, values: Tensor, mask: Tensor | None) -> Features:
        """Steps (B, T, hidden_size), and which are valid, (B, T) bool or None for all, as features."""
        values = self.dropout(values)
        turns = rotations(values.shape[1], self.head_size, values.device)
        for layer in self.layers:
            values = layer(values, mask, turns)
        values = self.norm(values)
        if self.pool is None:
            return Features(tokens=self.linear(values), mask=mask)
        return Features(pooled=self.linear(self.pool(values, mask)))


class Layer(nn.Module):
    """Attention with rotary positions, then a feed-forward part with GELU, each added to what it is given.

    Args:
        size: of a step's vector.
        num_heads: of the attention.
        inner: the units of the feed-forward part.
        dropout: the share of attention weights that is dropped, and of what each part adds.
    """

    def __init__(self, size: int, num_heads: int, inner: int, dropout: float) -> None:
        super().__init__()
        self.num_heads, self.head_size = num_heads, size // num_heads
        self.attention_norm, self.norm = nn.LayerNorm(size), nn.LayerNorm(size)
        self.project, self.out = nn.Linear(size, 3 * size), nn.Linear(size, size)
        self.up, self.down = nn.Linear(size, inner), nn.Linear(inner, size)
        self.dropout = nn.Dropout(dropout)

    def forward(self, values: Tensor, mask: Tensor | None, turns: tuple[Tensor, Tensor]) -> Tensor:
        """(B, T, size) to the same; steps that are not valid (mask (B, T) bool) are attended by none."""
        shape = (*values.shape[:2], 3, self.num_heads, self.head_size)
        queries, keys, own = self.project(self.attention_norm(values)).view(shape).permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(
            rotated(queries, turns),
            rotated(keys, turns),
            own,
            None if mask is None else mask[:, None, None, :],
            self.dropout.p if self.training else 0.0,
        )
        values = values + self.dropout(self.out(attended.transpose(1, 2).flatten(2)))
        result: Tensor = values + self.dropout(self.down(functional.gelu(self.up(self.norm(values)))))
        return result


def rotations(length: int, size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosines and sines (T, size / 2) by which each step's pairs of numbers are turned."""
    rates = BASE ** (-torch.arange(0, size, 2, device=device, dtype=torch.float32) / size)
    angles = torch.arange(length, device=device, dtype=torch.float32)[:, None] * rates
    return angles.cos(), angles.sin()


def rotated(values: Tensor, turns: tuple[Tensor, Tensor]) -> Tensor:
    """Each step's pairs (first half, second half) of (B, H, T, size), turned by its place."""
    cosines, sines = (turn.to(values.dtype) for turn in turns)
    first, second = values.chunk(2, -1)
    return torch.cat([first * cosines - second * sines, first * sines + second * cosines], -1)
