"""A convolutional network for series: residual blocks whose convolutions see ever further.

Axes: B batch, T time, C channels, D features.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from annotated_types import Ge, Le, Lt
from torch import Tensor, nn

from mmreg import Encoder, Features, Outputs, Signal, Spec
from mmreg.errors import OptionError, SpecError
from mmreg.layers import MaskedBatchNorm, Pooling, SequencePool
from mmreg_sequence.steps import Steps, refusal


class SeriesCNN(Encoder):
    """Dilated convolutions in residual blocks (Bai et al. 2018, here looking both ways), over a series of any length.

    The first block's convolutions see neighbours, the next ones' every second step, every fourth, and so on: with 6
    blocks and a kernel of 5 a step sees 252 steps to each side. Norms and pooling see valid steps alone.

    Args:
        spec: vectors "TC" with a fixed C, or tokens "T" with a vocabulary size.
        features: D, the size of what it gives.
        channels: of each block.
        num_blocks: how many blocks.
        kernel: steps that a convolution sees at once, odd.
        dropout: the share of values dropped within each block and before the linear layer.
        pooling: what becomes of the steps: their `mean`, their `max`, the `last` one, or learned `attention`. Not used
            when tokens are asked for.
        outputs: "pooled", or "tokens" for one vector a step.

    Raises:
        SpecError: from a spec that `accepts` refuses.
        OptionError: an even kernel.
    """

    provides: ClassVar[frozenset[Outputs]] = frozenset({"pooled", "tokens"})

    def __init__(
        self,
        spec: Spec,
        *,
        features: Annotated[int, Ge(1)] = 128,
        channels: Annotated[int, Ge(1)] = 64,
        num_blocks: Annotated[int, Ge(1), Le(20)] = 6,
        kernel: Annotated[int, Ge(1), Le(101)] = 5,
        dropout: Annotated[float, Ge(0), Lt(1)] = 0.1,
        pooling: Pooling = "mean",
        outputs: Outputs = "pooled",
    ) -> None:
        super().__init__()
        if reason := self.accepts(spec, {}):
            raise SpecError(f"series_cnn does not take {spec}: {reason}")
        if kernel % 2 == 0:
            raise OptionError(f"kernel: must be odd, as an even one cannot keep the length; found {kernel}")
        self.steps = Steps(spec, channels)
        self.blocks = nn.ModuleList(Block(channels, kernel, 2**number, dropout) for number in range(num_blocks))
        self.dropout = nn.Dropout(dropout)
        self.pool = SequencePool(channels, pooling) if outputs == "pooled" else None
        self.linear = nn.Linear(channels, features)
        self.out_features = features

    @classmethod
    def accepts(cls, spec: Spec, options: Mapping[str, Any]) -> str | None:
        """It takes sequences of floating-point vectors of one size, and tokens with a vocabulary size."""
        return refusal(spec)

    def forward(self, signal: Signal) -> Features:
        """Encode vectors (B, T, C) or tokens (B, T) to pooled (B, D), or to tokens (B, T, D) with their mask."""
        vectors, mask = self.steps(signal)
        values = vectors.transpose(1, 2)
        for block in self.blocks:
            values = block(values, None if mask is None else mask.unsqueeze(1))
        values = values.transpose(1, 2)
        if self.pool is None:
            return Features(tokens=self.linear(self.dropout(values)), mask=mask)
        return Features(pooled=self.linear(self.dropout(self.pool(values, mask))))


class Block(nn.Module):
    """Two dilated convolutions, each with a norm and ReLU, added to what the block is given.

    Args:
        channels: C.
        kernel: steps that a convolution sees at once.
        dilation: how far these are apart.
        dropout: the share of values dropped between the convolutions.
    """

    def __init__(self, channels: int, kernel: int, dilation: int, dropout: float) -> None:
        super().__init__()
        padding = dilation * (kernel // 2)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(channels, channels, kernel, padding=padding, dilation=dilation, bias=False) for _ in range(2)
        )
        self.norms = nn.ModuleList(MaskedBatchNorm(channels) for _ in range(2))
        self.dropout = nn.Dropout(dropout)

    def forward(self, values: Tensor, mask: Tensor | None) -> Tensor:
        """(B, C, T), zeros where the mask (B, 1, T) is not set, to the same."""
        found = self.dropout(self.norms[0](self.convolutions[0](values), mask).relu())
        found = self.norms[1](self.convolutions[1](found), mask)
        result: Tensor = (values + found).relu()
        return result
