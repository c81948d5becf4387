"""What passes between modality, encoder, fusion and task, one batch at a time.

Axes: B batch, T time or tokens, D features, K classes, M modalities.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic

import torch
from torch import Tensor
from torch.utils._pytree import register_dataclass
from typing_extensions import TypeVar

Values = TypeVar("Values", bound=Tensor | Mapping[str, Tensor], default=Tensor, covariant=True)
NewValues = TypeVar("NewValues", bound=Tensor | Mapping[str, Tensor])


def map_values(values: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """A signal's values with a function applied to the tensor, or to each of several."""
    if isinstance(values, Tensor):
        return function(values)
    return {name: function(tensor) for name, tensor in values.items()}


@dataclass(frozen=True)
class Signal(Generic[Values]):
    """One modality's batch. `Signal` alone has one tensor, `Signal[dict[str, Tensor]]` several by name.

    Attributes:
        values: (B, *spec.shape), or such tensors by name; a ragged axis is as long as the longest sample, and what
            lies beyond a sample's length is padding, of any content.
        lengths: (B,) int64 on the device of `values`: each sample's true size along the ragged axis, at least 1, the
            same for all named tensors that have one; None when the modality has no ragged axis.
        host_lengths: the same numbers in CPU memory, so that nobody has to wait for a device to read them.
    """

    values: Values
    lengths: Tensor | None = None
    host_lengths: Tensor | None = None

    def __len__(self) -> int:
        return self._tensor().shape[0]

    @property
    def device(self) -> torch.device:
        """Where the values are."""
        return self._tensor().device

    def replace(self, values: NewValues, lengths: Callable[[Tensor], Tensor] | None = None) -> Signal[NewValues]:
        """A signal with other values, its lengths mapped by an elementwise function of (B,) int64 (None: kept).

        Example:
            >>> signal = Signal(torch.zeros(2, 6, 1), lengths=torch.tensor([6, 3]))
            >>> signal.replace(signal.values[:, ::2], lambda lengths: (lengths + 1) // 2).lengths
            tensor([3, 2])
        """
        if self.lengths is None or lengths is None:
            return Signal(values, self.lengths, self.host_lengths)
        host = None if self.host_lengths is None else lengths(self.host_lengths)
        return Signal(values, lengths(self.lengths), host)

    def lengths_on_host(self) -> Tensor | None:
        """The lengths in CPU memory, fetched from the device only where they are not known here already."""
        if self.host_lengths is None and self.lengths is not None:
            return self.lengths.cpu()
        return self.host_lengths

    def to(self, device: torch.device | str) -> Signal[Values]:
        """The same signal on another device."""
        lengths = None if self.lengths is None else self.lengths.to(device, non_blocking=True)
        values = map_values(self.values, lambda tensor: tensor.to(device, non_blocking=True))
        return Signal(values, lengths, self.host_lengths)

    def _tensor(self) -> Tensor:
        """The tensor, or the first of several."""
        return self.values if isinstance(self.values, Tensor) else next(iter(self.values.values()))


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
        positions: (B, T) int64, for an operator that adds positions to tokens, which each of them has, from 0 and
            below T; None for as they come. Of the tokens of a set, such as the values of a cell, all have the first.
    """

    pooled: Tensor | None = None
    tokens: Tensor | None = None
    mask: Tensor | None = None
    losses: Mapping[str, Tensor] = field(default_factory=dict)
    positions: Tensor | None = None


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
