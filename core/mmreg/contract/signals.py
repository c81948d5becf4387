"""What passes between modality, encoder, fusion and task, one batch at a time.

Axes: B batch, T time or tokens, D features, K classes, M modalities.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.utils._pytree import register_dataclass


@dataclass(frozen=True)
class Signal:
    """One modality's batch.

    Attributes:
        values: (B, *spec.shape); a ragged axis is as long as the longest sample, and what lies beyond a sample's
            length is padding, of any content.
        lengths: (B,) int64 on the device of `values`: each sample's true size along the ragged axis, at least 1;
            None when the modality has no ragged axis.
        host_lengths: the same numbers in CPU memory, so that nobody has to wait for a device to read them.
    """

    values: Tensor
    lengths: Tensor | None = None
    host_lengths: Tensor | None = None

    def __len__(self) -> int:
        return self.values.shape[0]

    def replace(self, values: Tensor, lengths: Callable[[Tensor], Tensor] | None = None) -> Signal:
        """A signal with other values, its lengths mapped by an elementwise function of (B,) int64 (None: kept)."""
        if self.lengths is None or lengths is None:
            return Signal(values, self.lengths, self.host_lengths)
        host = None if self.host_lengths is None else lengths(self.host_lengths)
        return Signal(values, lengths(self.lengths), host)

    def lengths_on_host(self) -> Tensor | None:
        """The lengths in CPU memory, fetched from the device only where they are not known here already."""
        if self.host_lengths is None and self.lengths is not None:
            return self.lengths.cpu()
        return self.host_lengths

    def to(self, device: torch.device | str) -> Signal:
        """The same signal on another device."""
        lengths = None if self.lengths is None else self.lengths.to(device, non_blocking=True)
        return Signal(self.values.to(device, non_blocking=True), lengths, self.host_lengths)


@dataclass(frozen=True)
class Features:
    """What an encoder or a feature-level fusion gives for a batch.

    Attributes:
        pooled: (B, D) one vector a row; None where only tokens were asked for.
        tokens: (B, T, D') a sequence of vectors a row; None where only the pooled vector was asked for, or where
            there are no tokens to give.
        mask: (B, T) bool, True where a token is valid; None when every token is. A row's valid tokens come first, and
            every row that is present has at least one.
        losses: named extra terms (scalars, means over the batch's rows, already weighted) that training adds.
    """

    pooled: Tensor | None = None
    tokens: Tensor | None = None
    mask: Tensor | None = None
    losses: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Fused:
    """What a model-level fusion gives for a batch.

    Attributes:
        scores: (B, K) in the task's space, as its inputs are.
        losses: named extra terms (scalars, means over the batch's rows, already weighted) that training adds.
        extras: named values a row, each (B,), that go into the predictions, such as an uncertainty.
    """

    scores: Tensor
    losses: Mapping[str, Tensor] = field(default_factory=dict)
    extras: Mapping[str, Tensor] = field(default_factory=dict)


for _cls in (Signal, Features, Fused):  # trees of tensors to torch, which so maps, compiles and exports them
    register_dataclass(_cls, serialized_type_name=f"mmreg.{_cls.__name__}")
