"""Waveforms of different lengths for models that were made for one at a time.

Axes: B batch, C channels, T time (samples or frames).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmreg.layers import at_least_float32, length_mask


def num_frames(config: Any, lengths: Tensor) -> Tensor:
    """(B,) the frames that a model's convolutions make of so many samples; at least one."""
    for kernel, stride in zip(config.conv_kernel, config.conv_stride, strict=True):
        lengths = _convolved(lengths, kernel, stride)
    return lengths.clamp(min=1)


def fewest_samples(config: Any) -> int:
    """How many samples make a single frame."""
    samples = 1
    for kernel, stride in reversed(list(zip(config.conv_kernel, config.conv_stride, strict=True))):
        samples = (samples - 1) * stride + kernel
    return int(samples)


def scaled(waveform: Tensor, lengths: Tensor, scales: bool) -> Tensor:
    """Waveforms (B, T) whose padding is zero, if asked for brought to mean 0 and deviation 1 over their true length."""
    valid = length_mask(lengths, waveform.shape[1])
    waveform = waveform.masked_fill(~valid, 0)
    if not scales:
        return waveform
    values = at_least_float32(waveform)
    count = lengths[:, None]
    mean = values.sum(1, keepdim=True) / count
    centred = (values - mean).masked_fill(~valid, 0)
    variance = centred.square().sum(1, keepdim=True) / count
    return (centred / (variance + 1e-7).sqrt()).to(waveform.dtype)


def long_enough(waveform: Tensor, lengths: Tensor, fewest: int) -> tuple[Tensor, Tensor]:
    """Waveforms with silence behind those that are too short for a frame, and their lengths then."""
    if waveform.shape[1] < fewest:
        waveform = functional.pad(waveform, (0, fewest - waveform.shape[1]))
    return waveform, lengths.clamp(min=fewest)


class MaskedGroupNorm(nn.GroupNorm):
    """A norm of each channel over time that leaves out what is beyond a row's length.

    Args:
        norm: the one that it takes the place of.
        kernel: of the convolution before it.
        stride: of the convolution before it.

    Attributes:
        lengths: (B,) of the waveforms in samples, to be set before each batch.
    """

    def __init__(self, norm: nn.GroupNorm, kernel: int, stride: int) -> None:
        super().__init__(norm.num_groups, norm.num_channels, norm.eps, norm.affine)
        self.weight, self.bias = norm.weight, norm.bias
        self.kernel, self.stride = kernel, stride
        self.lengths: Tensor | None = None

    def forward(self, input: Tensor) -> Tensor:  # (torch's name)
        """Normalise (B, C, T)."""
        assert self.lengths is not None
        frames = _convolved(self.lengths, self.kernel, self.stride)
        valid = length_mask(frames, input.shape[-1])[:, None]
        values = at_least_float32(input).masked_fill(~valid, 0)
        count = frames[:, None, None]
        centred = (values - values.sum(-1, keepdim=True) / count).masked_fill(~valid, 0)
        variance = centred.square().sum(-1, keepdim=True) / count
        normed = centred / (variance + self.eps).sqrt()
        return normed * self.weight[:, None] + self.bias[:, None]


def mask_group_norms(network: nn.Module, config: Any) -> list[MaskedGroupNorm]:
    """Put a `MaskedGroupNorm` where a model has a norm over time, which is after its first convolution."""
    first: Any = network.get_submodule("feature_extractor.conv_layers.0")
    norm = getattr(first, "layer_norm", None)
    if not isinstance(norm, nn.GroupNorm):
        return []
    first.layer_norm = MaskedGroupNorm(norm, config.conv_kernel[0], config.conv_stride[0])
    return [first.layer_norm]


def _convolved(lengths: Tensor, kernel: int, stride: int) -> Tensor:
    return torch.div(lengths - kernel, stride, rounding_mode="floor") + 1
