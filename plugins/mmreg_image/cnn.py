"""A convolutional network for images and spectrograms of any size, in which padding never leaks.

Axes: B batch, C channels, H W height and width, T positions of the last feature map, D features.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Lt, MinLen
from torch import Tensor, nn

from mmreg import GRID, Encoder, Features, Outputs, Signal, Spec
from mmreg.errors import OptionError, SpecError
from mmreg.layers import length_mask, masked_mean
from mmreg_image.block import ImageBlock, Normalization, pooled_size

UNSTRIDED = 64
"""Pixels a side up to which every pixel is a position of the first convolution where no stride is given.

A step's time and memory grow with the positions: without a stride, pictures of 128 a side take 4 times as long as those
of 64, or twice that where the system takes memory of that size back after each step.
"""


class ImageCNN(Encoder):
    """Blocks of convolution, normalisation, max pooling and ReLU, then a linear layer.

    Each block halves height and width (rounding down); an axis that is down to one position stays. Values of any size
    and number of channels are taken; of large ones the first convolution takes fewer positions than there are pixels,
    as the first block would otherwise take longer than all others together. One axis may vary in length, with pooling
    "masked_global": then convolutions, norms and pooling see valid positions only.

    With `normalization: none` and `dropout: 0` it is the plain Conv, ReLU, MaxPool, ..., Flatten, Linear.

    Asked for tokens, it gives the positions of the last feature map row by row (column by column if the width varies),
    each through the linear layer; `pooling` then has no part in it.

    Args:
        channels: output channels of each block; as many blocks as numbers.
        kernel: height and width of the convolutions, odd; padding keeps the size.
        normalization: after each convolution: "batch" statistics, "group" (of up to 8 groups of channels, for small
            batches), or "none".
        dropout: the share of values dropped before the linear layer.
        residual: two convolutions a block, with a shortcut around them (He et al. 2016).
        pooling: "flatten" keeps every position; "global" averages over them; "masked_global" averages over valid ones.
        features: the size D of the result.
        stride: pixels from one position of the first convolution to the next, which divides height and width (rounding
            up). If not given, 1 up to 64 x 64 pixels, 2 up to 128 x 128, and so on.
    """

    version = 2
    provides = frozenset({"pooled", "tokens"})

    def __init__(
        self,
        spec: Spec,
        *,
        channels: Annotated[tuple[Annotated[int, Ge(1)], ...], MinLen(1)] = (32, 64, 128),
        kernel: Annotated[int, Ge(1)] = 3,
        normalization: Normalization = "batch",
        dropout: Annotated[float, Ge(0), Lt(1)] = 0.5,
        residual: bool = False,
        pooling: Literal["flatten", "global", "masked_global"] = "flatten",
        features: Annotated[int, Ge(1)] = 128,
        stride: Annotated[int, Ge(1)] | None = None,
        outputs: Outputs = "pooled",
    ) -> None:
        super().__init__()
        if reason := self.accepts(spec, {"pooling": pooling}):
            raise SpecError(f"ImageCNN does not take {spec}: {reason}")
        if kernel % 2 == 0:
            raise OptionError(f"kernel: must be odd, as an even one cannot keep the size; found {kernel}")
        self.ragged_axis = spec.ragged_axis
        self.flatten = pooling == "flatten" and outputs == "pooled"
        self.tokens = outputs == "tokens"
        self.dropout = nn.Dropout(dropout)
        self.out_features = features
        self._layers = partial(_layers, spec, channels, kernel, normalization, residual, features, self.flatten)
        self._set_stride(stride or _stride([size for size in spec.shape[1:] if size is not None]))

    def _set_stride(self, stride: int) -> None:
        self.stride = stride
        self.blocks, self.linear = self._layers(stride)

    @classmethod
    def accepts(cls, spec: Spec, options: Mapping[str, Any]) -> str | None:
        """Refuse what is no grid of numbers, and a ragged axis without masked pooling."""
        if spec.axes != GRID:
            return f"it takes axes {GRID} (channels, height, width)"
        if not spec.dtype.startswith(("float", "bfloat")):
            return "it takes floating point values"
        if spec.ragged_axis == 0:
            return "the number of channels must be fixed; height or width may vary"
        pooling = options.get("pooling", "flatten")
        if spec.ragged_axis is not None and pooling != "masked_global":
            return f"an axis that varies in length needs pooling 'masked_global', found {pooling!r}"
        return None

    def state(self) -> dict[str, Any]:
        """The stride, as what is chosen where none is given may change."""
        return {"stride": self.stride}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take over the stride."""
        if state["stride"] != self.stride:
            self._set_stride(state["stride"])

    @classmethod
    def migrate(cls, state: Mapping[str, Any], version: int) -> Mapping[str, Any]:
        """Version 1 had no stride."""
        return {"stride": 1}

    def forward(self, signal: Signal) -> Features:
        """Encode (B, C, H, W) to `pooled` (B, D), or to `tokens` (B, T, D) with a mask if an axis is ragged."""
        values, lengths = signal.values, signal.lengths
        mask = self._mask(values, lengths)
        if mask is not None:
            values = values.masked_fill(~mask, 0)
        if lengths is not None:
            lengths = torch.div(lengths + self.stride - 1, self.stride, rounding_mode="floor")
        for block in self.blocks:
            values = block(values, mask)
            if lengths is not None:
                lengths = torch.div(lengths, 2, rounding_mode="floor").clamp(min=1)
            mask = self._mask(values, lengths)
            if mask is not None:
                # A sample's last, odd position is dropped even where the batch goes on.
                values = values.masked_fill(~mask, 0)
        if self.flatten:
            return Features(pooled=self.linear(self.dropout(values.flatten(1))))
        if mask is not None:
            mask = mask.expand(-1, 1, *values.shape[2:])
            if self.ragged_axis == 2:  # column by column, so that the valid positions come first
                values, mask = values.transpose(2, 3), mask.transpose(2, 3)
        positions = values.flatten(2).transpose(1, 2)
        valid = None if mask is None else mask.flatten(1)
        if self.tokens:
            return Features(tokens=self.linear(self.dropout(positions)), mask=valid)
        return Features(pooled=self.linear(self.dropout(masked_mean(positions, valid))))

    def _mask(self, values: Tensor, lengths: Tensor | None) -> Tensor | None:
        """Which positions are valid: (B, 1, H, 1) or (B, 1, 1, W) bool; None if all are."""
        if lengths is None or self.ragged_axis is None:
            return None
        mask = length_mask(lengths, values.shape[self.ragged_axis + 1])
        return mask[:, None, :, None] if self.ragged_axis == 1 else mask[:, None, None, :]


def _stride(sizes: Sequence[int]) -> int:
    """The least by which the fixed ones of height and width come to `UNSTRIDED` or less, by their geometric mean."""
    side: float = float(math.prod(sizes)) ** (1 / len(sizes))
    return math.ceil(side / UNSTRIDED)


def _layers(
    spec: Spec,
    channels: Sequence[int],
    kernel: int,
    normalization: Normalization,
    residual: bool,
    features: int,
    flatten: bool,
    stride: int,
) -> tuple[nn.ModuleList, nn.Linear]:
    """The blocks, of which the first one has the stride, and the linear layer."""
    in_channels = spec.size("C")
    assert in_channels is not None
    strides = [stride, *[1] * (len(channels) - 1)]
    blocks = nn.ModuleList(
        ImageBlock(before, after, kernel, normalization, residual, step)
        for (before, after), step in zip(pairwise((in_channels, *channels)), strides, strict=True)
    )
    in_features = channels[-1]
    if flatten:
        sizes = [-(-size // stride) for size in spec.shape[1:] if size is not None]
        in_features *= math.prod(pooled_size(size, len(channels)) for size in sizes)
    return blocks, nn.Linear(in_features, features)
