"""A convolutional encoder of spectrograms, which keeps the frequency axis and never mixes sound with padding.

Axes: B batch, C channels, F frequency, T time, D features.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import torch
from annotated_types import Ge, Le
from torch import Tensor, nn

from mmreg import GRID, Encoder, Features, Outputs, Signal, Spec
from mmreg.convolution import conv_norm_pool
from mmreg.errors import OptionError, SpecError
from mmreg.layers import MaskedBatchNorm, SequencePool, length_mask


class SpectrogramBlock(nn.Module):
    """Convolution 3x3, batch norm over valid frames, maximum pooling 2x2, which rounds sizes up, and ReLU.

    Args:
        in_channels: C of the input.
        out_channels: C of the output.
        pool_frequency: whether to halve the frequency axis too, not time alone.
    """

    def __init__(self, in_channels: int, out_channels: int, *, pool_frequency: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)  # the norm has a bias
        self.norm = MaskedBatchNorm(out_channels)
        self.window = (2 if pool_frequency else 1, 2)

    def forward(self, values: Tensor, mask: Tensor | None) -> Tensor:
        """From (B, C, F, T), zero beyond the mask (B, T), to (B, C', F', ceil(T / 2)), zero beyond the lengths' half.

        The norm leaves zeros beyond the mask, which win no window from a frame whose ReLU is above zero: so a window
        that reaches from the last frame into the padding has the maximum of its valid part.
        """
        return conv_norm_pool(self.conv, self.norm, values, mask, pool=self.window, ceil_mode=True)


class AudioCNN(Encoder):
    """Convolutional network for spectrograms of any duration.

    Every block halves time and frequency. What remains of the frequency axis is kept beside the channels, as pitch
    and formants carry the meaning, and only time is pooled, over the sound's own frames.

    Args:
        channels: the channels of each block.
        features: the size of what it gives.
        pooling: over time: the mean, the maximum, or learned attention.
        dropout: the share of values dropped before the last layer.
    """

    provides: ClassVar[frozenset[Outputs]] = frozenset({"pooled", "tokens"})

    def __init__(
        self,
        spec: Spec,
        *,
        channels: tuple[Annotated[int, Ge(1)], ...] = (32, 64, 128),
        features: Annotated[int, Ge(1)] = 128,
        pooling: Literal["mean", "max", "attention"] = "mean",
        dropout: Annotated[float, Ge(0), Le(1)] = 0.2,
        outputs: Outputs = "pooled",
    ) -> None:
        super().__init__()
        reason = self.accepts(spec, {})
        if reason:
            raise SpecError(f"AudioCNN does not take {spec}: {reason}")
        if not channels:
            raise OptionError("channels: needs the size of at least one block, such as [32, 64, 128]")
        self.out_features = features
        in_channels, frequencies, _ = spec.shape
        assert in_channels is not None
        assert frequencies is not None
        self.blocks = nn.ModuleList()
        for out_channels in channels:
            self.blocks.append(SpectrogramBlock(in_channels, out_channels, pool_frequency=frequencies > 1))
            in_channels, frequencies = out_channels, (frequencies + 1) // 2
        size = in_channels * frequencies
        self.pool = SequencePool(size, pooling) if outputs == "pooled" else None
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(size, features)

    @classmethod
    def accepts(cls, spec: Spec, options: Mapping[str, Any]) -> str | None:
        """It takes grids whose time, the last axis, may vary."""
        if spec.axes != GRID:
            return f"it takes grids (axes {GRID}: channels, frequency, time), such as an audio modality's log_mel"
        if None in spec.shape[:2]:
            return "only the last axis (time) may vary in size"
        if "float" not in spec.dtype:
            return "it takes floating point values, such as float32"
        return None

    def forward(self, signal: Signal) -> Features:
        """Encode (B, C, F, T) to pooled (B, D), or to tokens (B, T', D), T halved by each block and rounded up."""
        values, lengths = signal.values, _lengths(signal)
        mask = None if lengths is None else length_mask(lengths, values.shape[-1])
        if mask is not None:
            values = values.masked_fill(~mask[:, None, None, :], 0)
        for block in self.blocks:
            values = block(values, mask)
            if lengths is not None:
                lengths = (lengths + 1) // 2
                mask = length_mask(lengths, values.shape[-1])
        sequence = values.flatten(1, 2).transpose(1, 2)
        if self.pool is None:
            return Features(tokens=self.linear(self.dropout(sequence)), mask=mask)
        return Features(pooled=self.linear(self.dropout(self.pool(sequence, mask))))


def _lengths(signal: Signal) -> Tensor | None:
    """The rows' lengths; None where the host knows that no row has padding, so that nothing needs to be masked."""
    host = signal.host_lengths
    if host is None or torch.compiler.is_compiling():  # a trace holds for other lengths too
        return signal.lengths
    return None if bool((host == signal.values.shape[-1]).all()) else signal.lengths
