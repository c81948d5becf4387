"""Random changes of sounds while training: time shift, noise, SpecAugment; drawn for each row, within its length.

Axes: B batch, C channels, F frequency, T time (samples or frames).
"""

from __future__ import annotations

import torch
from torch import Tensor


def time_shift(waveform: Tensor, lengths: Tensor, fraction: float, generator: torch.Generator | None = None) -> Tensor:
    """Move each sound earlier or later, filling up with silence; its length stays.

    Args:
        waveform: (B, T, C).
        lengths: (B,) int64.
        fraction: the furthest move, as a fraction of the sound's own length.
        generator: on the waveform's device.
    """
    draw = torch.rand(len(waveform), generator=generator, device=waveform.device)
    shift = ((2 * draw - 1) * fraction * lengths).round().long()
    target = torch.arange(waveform.shape[1], device=waveform.device)
    source = target - shift[:, None]
    inside = (source >= 0) & (torch.maximum(source, target) < lengths[:, None])
    index = source.clamp(0, waveform.shape[1] - 1).unsqueeze(-1).expand_as(waveform)
    return waveform.gather(1, index).masked_fill(~inside.unsqueeze(-1), 0)


def add_noise(waveform: Tensor, lengths: Tensor, amount: float, generator: torch.Generator | None = None) -> Tensor:
    """Add white noise, at a level between none and `amount` times the sound's own root mean square.

    Args:
        waveform: (B, T, C), zero beyond the lengths.
        lengths: (B,) int64.
        amount: the highest level; 0.1 is a signal-to-noise ratio of 20 dB.
        generator: on the waveform's device.
    """
    batch, _, channels = waveform.shape
    level = amount * torch.rand(batch, generator=generator, device=waveform.device)
    size = (lengths * channels).to(waveform.dtype)
    loudness = (waveform.square().sum((1, 2)) / size).sqrt()
    noise = torch.randn(waveform.shape, generator=generator, device=waveform.device, dtype=waveform.dtype)
    return waveform + noise * (level.to(waveform.dtype) * loudness)[:, None, None]


def spec_augment_mask(
    lengths: Tensor,
    size: tuple[int, int],
    *,
    frequency_width: float,
    time_width: float,
    num_masks: int,
    generator: torch.Generator | None = None,
) -> Tensor:
    """What SpecAugment (Park et al. 2019, without its time warping) hides: bands of frequencies and of frames.

    Widths are uniform from 0 to their maximum, and positions uniform among those where the band fits.

    Args:
        lengths: (B,) int64, each row's valid frames.
        size: F and T.
        frequency_width: the widest band, as a fraction of F.
        time_width: the widest band, as a fraction of the row's valid frames.
        num_masks: bands along each axis.
        generator: on the device of `lengths`.

    Returns:
        (B, F, T) bool, True where hidden.
    """
    draws = torch.rand(4, len(lengths), num_masks, generator=generator, device=lengths.device)
    frequencies, frames = size
    bands = _bands(draws[0], draws[1], torch.full_like(lengths, frequencies), frequency_width, frequencies)
    times = _bands(draws[2], draws[3], lengths, time_width, frames)
    return bands[:, :, None] | times[:, None, :]


def _bands(width_draw: Tensor, start_draw: Tensor, sizes: Tensor, fraction: float, length: int) -> Tensor:
    """(B, length) bool: whether one of a row's bands covers the position; the draws are (B, num_masks) in [0, 1)."""
    sizes = sizes[:, None]
    width = (width_draw * ((sizes * fraction).floor() + 1)).floor()
    start = (start_draw * (sizes - width + 1)).floor()
    # A draw next to 1 may be rounded up to the full product.
    start = torch.minimum(start, sizes - width)[:, :, None]
    position = torch.arange(length, device=sizes.device)
    return ((position >= start) & (position < start + width[:, :, None])).any(1)
