"""One block of the image network: convolution, norm, ReLU and max pooling, over valid positions only.

Axes: B batch, C channels, H W height and width.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from mmreg.layers import MaskedBatchNorm, at_least_float32

Normalization = Literal["none", "batch", "group"]


class MaskedGroupNorm(nn.GroupNorm):
    """Group normalisation (Wu and He 2018) with statistics of valid positions only.

    The same parameters as `torch.nn.GroupNorm`, and the same result without a mask. Unlike that it takes a single
    value per group too (which becomes the bias).
    """

    def forward(self, values: Tensor, mask: Tensor | None = None) -> Tensor:
        """Normalise (B, C, H, W) with mask (B, 1, H or 1, W or 1) bool; padding comes out as zero."""
        batch, channels, height, width = values.shape
        wide = at_least_float32(values)  # as torch's own under reduced precision
        grouped = wide.view(batch, self.num_groups, channels // self.num_groups, height, width)
        if mask is None:
            variance, mean = torch.var_mean(grouped, (2, 3, 4), correction=0, keepdim=True)
            normalized = (grouped - mean) * (variance + self.eps).rsqrt()
        else:
            valid = mask.expand(-1, 1, height, width)[:, None]
            count = valid.sum((2, 3, 4), keepdim=True) * grouped.shape[2]
            mean = grouped.masked_fill(~valid, 0).sum((2, 3, 4), keepdim=True) / count
            centred = (grouped - mean).masked_fill(~valid, 0)
            variance = centred.square().sum((2, 3, 4), keepdim=True) / count
            normalized = centred * (variance + self.eps).rsqrt()
        result = normalized.view_as(wide) * self.weight[:, None, None] + self.bias[:, None, None]
        result = result if mask is None else result.masked_fill(~mask, 0)
        return result.to(values.dtype)


class ImageBlock(nn.Module):
    """Convolution, norm, ReLU, max pooling of 2; with `residual`, two convolutions and a shortcut around them.

    Args:
        in_channels: C of the input.
        out_channels: C of the output.
        kernel: of the convolutions, odd.
        normalization: after each convolution.
        residual: whether to add the block's input (through a convolution of kernel 1 where C differs) before the
            last ReLU (He et al. 2016).
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, normalization: Normalization, residual: bool
    ) -> None:
        super().__init__()
        # A norm takes the mean away, so a bias before it would have no effect, and no gradient.
        bias = normalization == "none"
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2, bias=bias)
        self.norm = _norm(out_channels, normalization)
        self.residual = residual
        if residual:
            self.second_conv = nn.Conv2d(out_channels, out_channels, kernel, padding=kernel // 2, bias=bias)
            self.second_norm = _norm(out_channels, normalization)
            self.shortcut = (
                nn.Conv2d(in_channels, out_channels, 1, bias=False) if in_channels != out_channels else nn.Identity()
            )

    def forward(self, values: Tensor, mask: Tensor | None) -> Tensor:
        """Convolve (B, C, H, W), zero where mask (broadcastable, bool) is False, and halve height and width.

        What the result holds at padding, which is what lies beyond half of a length, has no meaning.
        """
        result = _apply_norm(self.norm, self.conv(values), mask).relu()
        if self.residual:
            if mask is not None:
                result = result.masked_fill(~mask, 0)
            result = _apply_norm(self.second_norm, self.second_conv(result), mask)
            result = (result + self.shortcut(values)).relu()
        if mask is not None:
            # Nothing valid is below zero after ReLU, so that zeros win no window from a valid position.
            result = result.masked_fill(~mask, 0)
        height, width = result.shape[2:]
        return nn.functional.max_pool2d(result, (min(2, height), min(2, width)))


def pooled_size(size: int, blocks: int) -> int:
    """What some blocks leave of an axis: each one half, rounded down, but at least 1."""
    return max(1, size >> blocks)


def _norm(channels: int, normalization: Normalization) -> nn.Module | None:
    if normalization == "batch":
        return MaskedBatchNorm(channels)
    if normalization == "group":
        return MaskedGroupNorm(math.gcd(channels, 8), channels)
    return None


def _apply_norm(norm: nn.Module | None, values: Tensor, mask: Tensor | None) -> Tensor:
    if norm is None:
        return values
    result: Tensor = norm(values, mask)
    return result
