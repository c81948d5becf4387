"""From the features of each value to one vector, or some tokens, a row, where rows have any number of values.

Axes: n rows, V values, k values of the row that has most, D features.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn

from mmreg.contract.interfaces import Encoder
from mmreg.contract.signals import Features, Signal, map_values
from mmreg.data.segments import Segments
from mmreg.layers import AttentionPool, at_least_float32, length_mask

Kind = Literal["mean", "max", "attention", "tokens"]
"""How the values of a row become what it has."""
AT_ONCE = 256
"""Values that are encoded at a time in use; a batch of rows may have any number of them."""


class ValuePooling(nn.Module):
    """Pools what an encoder gives for each value of a row.

    None of it depends on the order of a row's values, unless `ordered`, nor on what other rows have.

    Args:
        kind: mean, max (of each feature), attention (a weight a value, softmax(v . tanh(W x)) over those of a row,
            Bahdanau 2015 and Ilse et al. 2018), or tokens (each value is one of a set).
        features: D.
        ordered: whether each value's features get its place added: sinusoids (Vaswani et al. 2017) times a learned
            factor. Of attention or tokens alone.
    """

    def __init__(self, kind: Kind, features: int, ordered: bool = False) -> None:
        super().__init__()
        self.kind = kind
        self.attention = AttentionPool(features) if kind == "attention" else None
        self.place_scale = nn.Parameter(torch.ones(())) if ordered else None

    def forward(self, features: Features, segments: Segments) -> Features:
        """The features (n, ...) of rows, given those (V, D) of their values."""
        values = features.pooled
        assert values is not None
        if self.place_scale is not None:
            values = values + (self.place_scale * sinusoids(segments.places, values.shape[1])).to(values.dtype)
        if self.kind == "tokens":
            tokens = values.new_zeros(len(segments.counts), segments.longest, values.shape[1])
            tokens = tokens.index_put((segments.rows, segments.places), values)
            mask = length_mask(segments.counts, segments.longest)
            return Features(tokens=tokens, mask=mask, positions=torch.zeros_like(mask, dtype=torch.int64))
        if self.kind == "max":
            return Features(pooled=segment_max(values, segments))
        wide = at_least_float32(values)  # sums of reduced precision lose too much
        if self.attention is None:
            pooled = segment_sum(wide, segments) / segments.counts.to(wide.dtype)[:, None]
        else:
            logits = self.attention.score(torch.tanh(self.attention.project(values)))
            pooled = segment_sum(segment_softmax(at_least_float32(logits), segments) * wide, segments)
        return Features(pooled=pooled.to(values.dtype))


def segment_sum(values: Tensor, segments: Segments) -> Tensor:
    """The sum (n, D) of each row's values (V, D)."""
    return values.new_zeros(len(segments.counts), values.shape[1]).index_add(0, segments.rows, values)


def segment_max(values: Tensor, segments: Segments) -> Tensor:
    """The greatest (n, D) of each row's values (V, D), every feature by itself; equal ones share the gradient."""
    start = values.new_full((len(segments.counts), values.shape[1]), -torch.inf)
    return start.scatter_reduce(0, segments.rows[:, None].expand_as(values), values, "amax")


def segment_softmax(logits: Tensor, segments: Segments) -> Tensor:
    """A softmax (V, D) over each row's logits (V, D)."""
    greatest = segment_max(logits.detach(), segments)
    weights = (logits - greatest.index_select(0, segments.rows)).exp()
    return weights / segment_sum(weights, segments).index_select(0, segments.rows)


def sinusoids(places: Tensor, features: int) -> Tensor:
    """Sines and cosines (V, D) of places (V,), of wavelengths from 2 pi to 10,000 times that (Vaswani et al. 2017)."""
    half = (features + 1) // 2
    steps = torch.arange(half, device=places.device, dtype=torch.float32)
    angles = places[:, None].float() * torch.exp(steps * (-math.log(10_000) / half))
    return torch.stack([angles.sin(), angles.cos()], 2).flatten(1)[:, :features]


def encoded_in_parts(encoder: Encoder, signal: Signal[Any]) -> Features:
    """What an encoder in use gives for V values, a part of them at a time, so that a row of very many fits as well."""
    parts: list[Tensor] = [encoder(_part(signal, first)).pooled for first in range(0, len(signal), AT_ONCE)]
    return Features(pooled=parts[0] if len(parts) == 1 else torch.cat(parts))


def _part(signal: Signal[Any], first: int) -> Signal[Any]:
    if len(signal) <= AT_ONCE:
        return signal
    own = slice(first, first + AT_ONCE)
    lengths, host = (None if each is None else each[own] for each in (signal.lengths, signal.host_lengths))
    return Signal(map_values(signal.values, lambda tensor: tensor[own]), lengths, host)
