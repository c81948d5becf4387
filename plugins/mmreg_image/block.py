"""One block of the image network: convolution, norm, max pooling and ReLU, over valid positions only.

Axes: B batch, C channels, H W height and width.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from mmreg.convolution import conv_norm_pool, max_pool
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
    """Convolution, norm, max pooling of 2, ReLU; with `residual`, two convolutions and a shortcut around them.

    Args:
        in_channels: C of the input.
        out_channels: C of the output.
        kernel: of the convolutions, odd.
        normalization: after each convolution.
        residual: whether to add the block's input (through a convolution of kernel 1 where its shape differs) before
            the last pooling and ReLU (He et al. 2016).
        stride: pixels from one position of the first convolution to the next. Its kernel grows with it, so that
            neighbouring positions overlap and no pixel is left out.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        normalization: Normalization,
        residual: bool,
        stride: int = 1,
    ) -> None:
        super().__init__()
        # A norm takes the mean away, so a bias before it would have no effect, and no gradient.
        bias = normalization == "none"
        first = max(kernel, 2 * stride - 1)
        self.stride = stride
        self.conv = nn.Conv2d(in_channels, out_channels, first, stride, padding=first // 2, bias=bias)
        self.norm = _norm(out_channels, normalization)
        self.residual = residual
        if residual:
            self.second_conv = nn.Conv2d(out_channels, out_channels, kernel, padding=kernel // 2, bias=bias)
            self.second_norm = _norm(out_channels, normalization)
            same_shape = in_channels == out_channels and stride == 1
            self.shortcut = nn.Identity() if same_shape else nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)

    def forward(self, values: Tensor, mask: Tensor | None) -> Tensor:
        """Convolve (B, C, H, W), zero where mask (broadcastable, bool) is False, and halve height and width.

        They are divided by the stride first, rounding up. What the result holds at padding, which is what lies beyond
        half of a length, has no meaning.
        """
        if mask is None and isinstance(self.norm, MaskedBatchNorm) and not self.residual:
            return conv_norm_pool(self.conv, self.norm, values, pool=self._window(values))
        if mask is not None and self.stride > 1:
            # By a convolution, whose shape is told as that of the values is, so that an export holds for any width.
            mask = nn.functional.conv2d(mask.to(values.dtype), values.new_ones(1, 1, 1, 1), stride=self.stride) > 0
        result = _apply_norm(self.norm, _convolved(self.conv, values), mask)
        if self.residual:
            result = _apply_norm(self.second_norm, _convolved(self.second_conv, result.relu()), mask)
            result = result + self.shortcut(values)
        # The maximum of ReLUs is the ReLU of the maximum, which is a quarter of the work. Padding is zero by now, and
        # zeros win no window from a valid position whose ReLU is above zero.
        return max_pool(result, self._window(values)).relu()

    def _window(self, values: Tensor) -> tuple[int, int]:
        """Height and width of the pooling's window: 2, or 1 where there is one position."""
        height, width = values.shape[2:]
        rounded = self.stride - 1
        return min(2, (height + rounded) // self.stride), min(2, (width + rounded) // self.stride)


def pooled_size(size: int, blocks: int) -> int:
    """What some blocks leave of an axis: each one half, rounded down, but at least 1."""
    return max(1, size >> blocks)


def _norm(channels: int, normalization: Normalization) -> nn.Module | None:
    if normalization == "batch":
        return MaskedBatchNorm(channels)
    if normalization == "group":
        return MaskedGroupNorm(math.gcd(channels, 8), channels)
    return None


def _convolved(conv: nn.Module, values: Tensor) -> Tensor:
    """A convolution in the memory order in which a CPU convolves, normalises and pools fastest: channels last."""
    result: Tensor = conv(values.contiguous(memory_format=torch.channels_last))
    return result.contiguous(memory_format=torch.channels_last)  # of one channel's input it is not yet


def _apply_norm(norm: nn.Module | None, values: Tensor, mask: Tensor | None) -> Tensor:
    """Normalised, if there is a norm; zero at padding."""
    if norm is None:
        return values if mask is None else values.masked_fill(~mask, 0)
    result: Tensor = norm(values, mask)
    return result
