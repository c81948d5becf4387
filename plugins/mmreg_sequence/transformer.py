"""A transformer over a sequence's steps.

Axes: B batch, T time or tokens, H heads, D features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

import torch
from annotated_types import Ge, Le, Lt
from torch import Tensor, nn
from torch.nn import functional

from mmreg import Encoder, Features, Outputs, Signal, Spec
from mmreg.errors import OptionError, SpecError
from mmreg.layers import Pooling, SequencePool
from mmreg_sequence.steps import Steps, refusal

BASE = 10_000.0
"""Of rotary positions: the longest wave is about so many steps long."""


class SequenceTransformer(Encoder):
    """Layers of attention and a feed-forward part (Vaswani 2017), normalised first; positions by rotation (Su 2021).

    Rotary positions know distances alone, so sequences may be longer in use than in training.

    Args:
        spec: tokens "T" with a vocabulary size, or vectors "TC" with a fixed C.
        features: D, the size of what it gives.
        hidden_size: the size of a step's vector within; an even multiple of `num_heads`.
        num_layers: how many layers.
        num_heads: how many heads the attention has.
        feedforward_size: the units of the feed-forward part; four times `hidden_size` if not given.
        dropout: the share of values dropped after the embedding, of attention weights, and of what each part adds.
        pooling: what becomes of the steps: the `last` valid one, their `mean`, their `max`, or learned `attention`. Not
            used when tokens are asked for.
        outputs: "pooled", or "tokens" for one vector a step.

    Raises:
        SpecError: from a spec that `accepts` refuses.
        OptionError: `hidden_size` is no even multiple of `num_heads`.
    """

    provides: ClassVar[frozenset[Outputs]] = frozenset({"pooled", "tokens"})

    def __init__(
        self,
        spec: Spec,
        *,
        features: Annotated[int, Ge(1)] = 100,
        hidden_size: Annotated[int, Ge(2)] = 128,
        num_layers: Annotated[int, Ge(1), Le(100)] = 2,
        num_heads: Annotated[int, Ge(1)] = 4,
        feedforward_size: Annotated[int, Ge(1)] | None = None,
        dropout: Annotated[float, Ge(0), Lt(1)] = 0.1,
        pooling: Pooling = "mean",
        outputs: Outputs = "pooled",
    ) -> None:
        super().__init__()
        if reason := self.accepts(spec, {}):
            raise SpecError(f"transformer does not take {spec}: {reason}")
        if hidden_size % (2 * num_heads):
            raise OptionError(f"hidden_size: must be an even multiple of num_heads ({num_heads}), found {hidden_size}")
        self.steps = Steps(spec, hidden_size)
        self.dropout = nn.Dropout(dropout)
        self.head_size = hidden_size // num_heads
        inner = feedforward_size or 4 * hidden_size
        self.layers = nn.ModuleList(Layer(hidden_size, num_heads, inner, dropout) for _ in range(num_layers))
        self.norm = nn.LayerNorm(hidden_size)
        self.pool = SequencePool(hidden_size, pooling) if outputs == "pooled" else None
        self.linear = nn.Linear(hidden_size, features)
        self.out_features = features

    @classmethod
    def accepts(cls, spec: Spec, options: Mapping[str, Any]) -> str | None:
        """It takes tokens with a vocabulary size, and sequences of floating-point vectors of one size."""
        return refusal(spec)

    def stages(self) -> Sequence[nn.Module]:
        """The embedding, then each layer."""
        return [self.steps, *self.layers]

    def forward(self, signal: Signal) -> Features:
        """Encode tokens (B, T) or vectors (B, T, C) to pooled (B, D), or to tokens (B, T, D) with their mask."""
        values, mask = self.steps(signal)
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
        dropout: see `SequenceTransformer`.
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
