"""A temporal convolutional network that never mixes a recording with its padding.

Axes: B batch, C channels, T readings, D features.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Lt
from torch import Tensor, nn

from mmreg import SEQUENCE, Encoder, Features, Outputs, Signal, Spec
from mmreg.errors import OptionError, SpecError
from mmreg.layers import MaskedBatchNorm, SequencePool, length_mask


class Block(nn.Module):
    """Dilated convolution, batch norm over valid readings, ReLU and dropout, added to what came in.

    Args:
        channels: C of the input and the output.
        kernel_size: readings that the convolution sees.
        dilation: how far these are apart.
        dropout: the share of values dropped.
    """

    def __init__(self, channels: int, kernel_size: int, dilation: int, dropout: float) -> None:
        super().__init__()
        self.conv = nn.Conv1d(channels, channels, kernel_size, padding="same", dilation=dilation, bias=False)
        self.norm = MaskedBatchNorm(channels)
        self.dropout = nn.Dropout(dropout)

    def forward(self, values: Tensor, mask: Tensor | None) -> Tensor:
        """From (B, C, T), zero beyond the mask (B, 1, T), to the same."""
        changed: Tensor = self.dropout(self.norm(self.conv(values), mask).relu())
        return values + changed


class MotionTCN(Encoder):
    """Temporal convolutional network (Bai et al. 2018, not causal) for sequences of vectors.

    The dilation doubles from block to block, so that the last one sees (kernel_size - 1) (2^blocks - 1) + 1 readings.

    Args:
        channels: the channels of every block.
        blocks: how many blocks there are.
        kernel_size: readings that each convolution sees; odd.
        features: the size of what it gives.
        pooling: over time: the mean, the maximum, or learned attention.
        dropout: the share of values dropped in each block.
    """

    provides: ClassVar[frozenset[Outputs]] = frozenset({"pooled", "tokens"})

    def __init__(
        self,
        spec: Spec,
        *,
        channels: Annotated[int, Ge(1)] = 32,
        blocks: Annotated[int, Ge(1)] = 4,
        kernel_size: Annotated[int, Ge(1)] = 5,
        features: Annotated[int, Ge(1)] = 64,
        pooling: Literal["mean", "max", "attention"] = "mean",
        dropout: Annotated[float, Ge(0), Lt(1)] = 0.1,
        outputs: Outputs = "pooled",
    ) -> None:
        super().__init__()
        if reason := self.accepts(spec, {}):
            raise SpecError(f"motion_tcn does not take {spec}: {reason}")
        if kernel_size % 2 == 0:
            raise OptionError(f"kernel_size: must be odd, found {kernel_size}")
        size = spec.size("C")
        assert size is not None
        self.first = nn.Conv1d(size, channels, 1)
        self.blocks = nn.ModuleList(Block(channels, kernel_size, 2**n, dropout) for n in range(blocks))
        self.pool = SequencePool(channels, pooling) if outputs == "pooled" else None
        self.linear = nn.Linear(channels, features)
        self.out_features = features

    @classmethod
    def accepts(cls, spec: Spec, options: Mapping[str, Any]) -> str | None:
        """It takes sequences of floating-point vectors of one size."""
        if spec.axes != SEQUENCE or spec.size("C") is None or "float" not in spec.dtype:
            return f"it takes a sequence ({SEQUENCE}) of floating-point vectors that are all of one size"
        return None

    def forward(self, signal: Signal) -> Features:
        """Encode (B, T, C) to pooled (B, D), or to tokens (B, T, D) with their mask."""
        values = signal.values.transpose(1, 2)
        valid = None if signal.lengths is None else length_mask(signal.lengths, values.shape[-1])
        mask = None if valid is None else valid.unsqueeze(1)
        if mask is not None:
            values = values.masked_fill(~mask, 0)
        values = self.first(values)
        if mask is not None:
            values = values.masked_fill(~mask, 0)  # a bias has made padding non-zero
        for block in self.blocks:
            values = block(values, mask)
        sequence = values.transpose(1, 2)
        if self.pool is None:
            return Features(tokens=self.linear(sequence), mask=valid)
        return Features(pooled=self.linear(self.pool(sequence, valid)))
