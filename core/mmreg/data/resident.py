"""Prepared values kept on the device that computes, so that a batch is an index into them.

Axes: B batch, n rows of it that have a modality, N rows, R rows of a split, V values, M modalities, T the ragged axis.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmreg.contract.signals import Features, Signal
from mmreg.contract.spec import by_name
from mmreg.data.batches import Batch
from mmreg.data.features import FeatureValues
from mmreg.data.prepared import Prepared
from mmreg.data.segments import Segments, longest, ranges

SHARE = 0.5
"""The share of a device's free memory up to which values are kept on it; models and their steps need the rest."""
PIECE = 1 << 26
"""Bytes that are copied to the device at once."""


def fits(prepared: Mapping[str, Prepared], free: int) -> bool:
    """Whether values may be kept on a device.

    Args:
        prepared: by modality.
        free: bytes that are free on the device.
    """
    size = sum(part.nbytes + part.index.nbytes for part in prepared.values())
    return all(part.whole for part in prepared.values()) and size <= SHARE * free


def bucket(length: int, longest: int) -> int:
    """The length to which a batch is padded: one of few, so that shapes come again, and at most a quarter longer.

    Args:
        length: of the batch's longest value.
        longest: of all values.

    Example:
        >>> [bucket(length, 300) for length in (1, 5, 9, 33, 257, 300)]
        [1, 5, 10, 40, 300, 300]
    """
    step = 1 << max(0, (length - 1).bit_length() - 3)
    return min(-(-length // step) * step, longest)


class ResidentValues:
    """One modality's values on a device.

    Args:
        prepared: the values.
        device: where to keep them.

    Attributes:
        features: makes features of what is gathered, where the values are encoded already; None otherwise.
        lengths: (V,) on the host, of ragged values; None if none is.
        bounds: (N + 1,) on the host, where each row's values begin in `index`; None where a row has one at most.
    """

    def __init__(self, prepared: Prepared, device: torch.device) -> None:
        self._specs = by_name(prepared.stored)
        self._arrays = {name: _copied(array, device) for name, array in prepared.everything().items()}
        self._is_named = isinstance(prepared.stored, Mapping)
        self.features = prepared.features if isinstance(prepared, FeatureValues) else None
        self.index, self.bounds = prepared.index, prepared.bounds
        self._index = _copied(prepared.index, device)  # which `take` writes to
        self.lengths: NDArray[np.int64] | None = None
        if prepared.offsets is not None:
            self.lengths = np.diff(prepared.offsets)
            self._offsets = _copied(prepared.offsets, device)
            self._longest = int(self.lengths.max(initial=0))
            self._is_even = int(self.lengths.min(initial=self._longest)) == self._longest

    def take(self, index: NDArray[np.int64]) -> None:
        """Let each place of `index` have another one of the values, where a recorded step reads it."""
        self.index = index
        self._index.copy_(torch.from_numpy(index))

    def padded_length(self, places: NDArray[np.int64]) -> int | None:
        """How long a batch of what has these places in `index` is along the ragged axis; None if there is none."""
        if self.lengths is None:
            return None
        return bucket(int(self.lengths[self.index[places]].max(initial=0)), self._longest)

    def gather(self, places: Tensor, length: int | None) -> Signal[Any]:
        """The values that have some places in `index`: with one value a row these are the rows.

        Args:
            places: (V,) int64 on the device.
            length: to which ragged values are padded.
        """
        wanted = self._index.index_select(0, places)
        if self.lengths is None:
            gathered = {name: array.index_select(0, wanted) for name, array in self._arrays.items()}
            return Signal(gathered if self._is_named else gathered[""])
        assert length is not None
        begin = self._offsets.index_select(0, wanted)
        lengths = self._offsets.index_select(0, wanted + 1) - begin
        place = torch.arange(length, device=places.device)
        valid = place < lengths[:, None]
        flat = torch.where(valid, begin[:, None] + place, 0).flatten()
        gathered = {}
        for name, array in self._arrays.items():
            if self._specs[name].ragged_axis is None:
                gathered[name] = array.index_select(0, wanted)
                continue
            taken = array.index_select(0, flat).view(len(places), length, *array.shape[1:])
            gathered[name] = taken.masked_fill(~valid.view(len(places), length, *[1] * (array.dim() - 1)), 0)
        # The host knows the lengths of a batch only where all are alike: then no batch's are another's.
        host = torch.full((len(places),), self._longest) if self._is_even else None
        return Signal(gathered if self._is_named else gathered[""], lengths, host)


class ResidentRows:
    """Some rows of a table with their values on a device.

    Args:
        values: by modality, in the order of the recipe.
        rows: (R,) int64, which rows of the table.
        targets: (R,) or (R, K), what the task made of their targets.
        weights: (R,) float32, the weights of their losses.
        device: where the values are.
    """

    def __init__(
        self,
        values: Mapping[str, ResidentValues],
        rows: NDArray[np.int64],
        targets: NDArray[Any],
        weights: NDArray[np.float32],
        device: torch.device,
    ) -> None:
        self.values, self.host_rows, self.host_weights, self.device = dict(values), rows, weights, device
        self.rows, self.targets, self.weights = (torch.from_numpy(each).to(device) for each in (rows, targets, weights))

    def batch(self, index: NDArray[np.int64], present: NDArray[np.bool_]) -> IndexedBatch:
        """Some of the rows.

        Args:
            index: (B,) their places in the split.
            present: (B, M) which of them have which modality.
        """
        having: dict[str, NDArray[np.int64] | None] = {}
        lengths: dict[str, int | None] = {}
        groups: dict[str, _Grouped] = {}
        for column, (name, values) in enumerate(self.values.items()):
            if present[:, column].any():
                where = None if present[:, column].all() else np.flatnonzero(present[:, column])
                having[name] = where
                places = self.host_rows[index if where is None else index[where]]
                if values.bounds is not None:
                    groups[name] = _Grouped.of(values.bounds, places)
                    places = groups[name].places
                lengths[name] = values.padded_length(places)
        return IndexedBatch(self, index, having, lengths, groups)


@dataclass(frozen=True)
class _Grouped:
    """The places (V,) in `index` of the values of n rows of which each has any number (n,), on the host."""

    places: NDArray[np.int64]
    counts: NDArray[np.int64]

    @classmethod
    def of(cls, bounds: NDArray[np.int64], rows: NDArray[np.int64]) -> _Grouped:
        return cls(ranges(bounds, rows), bounds[rows + 1] - bounds[rows])

    @property
    def shape(self) -> tuple[int, int, int]:
        return len(self.places), len(self.counts), longest(self.counts)

    @property
    def numbers(self) -> NDArray[np.int64]:
        """All in one: the places, whose row each is, and how many each row has."""
        return np.concatenate([self.places, np.repeat(np.arange(len(self.counts)), self.counts), self.counts])

    def read(self, numbers: Tensor) -> tuple[Tensor, Segments]:
        """The places, and which are whose, of one with this shape and these numbers."""
        size, rows, most = self.shape
        assert len(numbers) == 2 * size + rows
        return numbers[:size], Segments(numbers[size : 2 * size], numbers[2 * size :], most)


@dataclass(frozen=True)
class IndexedBatch:
    """A batch whose values are on a device already.

    Attributes:
        source: the rows that it is of.
        index: (B,) int64, the rows' places in the split.
        having: for each modality that any row has, the places in the batch of those that have it; None for all.
        lengths: of each such modality the length to which it is padded; None where none is ragged.
        groups: of each of which a row has any number of values, which these are.
        own: how many of its rows, the first ones, have a loss; None for all of them.
    """

    source: ResidentRows
    index: NDArray[np.int64]
    having: Mapping[str, NDArray[np.int64] | None]
    lengths: Mapping[str, int | None] = field(default_factory=dict)
    groups: Mapping[str, _Grouped] = field(default_factory=dict)
    own: int | None = None

    @property
    def size(self) -> int:
        """B, the number of rows."""
        return len(self.index)

    @property
    def weight(self) -> float:
        """The weight of all rows together."""
        return float(self.source.host_weights[self.index].sum())

    @cached_property
    def shape(self) -> Hashable:
        """What two batches share whose tensors have the same shapes."""
        having = [(name, None if where is None else len(where)) for name, where in self.having.items()]
        groups = tuple((name, each.shape) for name, each in self.groups.items())
        return self.size, tuple(having), tuple(self.lengths.items()), groups, self.own

    @property
    def numbers(self) -> NDArray[np.int64]:
        """All that tells this batch from others of its shape: `index`, then the places in `having`, then `groups`."""
        having = (where for where in self.having.values() if where is not None)
        return np.concatenate([self.index, *having, *(each.numbers for each in self.groups.values())])

    def to(self, device: torch.device | str) -> Batch:
        """The batch, on the device where its values are."""
        assert torch.device(device) == self.source.device
        numbers = torch.from_numpy(self.numbers)
        if self.source.device.type == "cuda":
            numbers = numbers.pin_memory()
        return self.gather(numbers.to(self.source.device, non_blocking=True))

    def gather(self, numbers: Tensor) -> Batch:
        """The batch of this shape with these `numbers`, given as int64 on the device."""
        source, size = self.source, self.size
        index = numbers[:size]
        rows = source.rows.index_select(0, index)
        present = torch.ones(size, len(source.values), dtype=torch.bool, device=rows.device)
        signals: dict[str, Signal[Any]] = {}
        features: dict[str, Features] = {}
        places: dict[str, Tensor | None] = {}
        segments: dict[str, Segments] = {}
        begin = size
        behind = size + sum(len(where) for where in self.having.values() if where is not None)
        for column, (name, values) in enumerate(source.values.items()):
            if name not in self.having:
                present[:, column].zero_()
                continue
            where, own, places[name] = self.having[name], rows, None
            if where is not None:
                places[name] = place = numbers[begin : begin + len(where)]
                begin += len(where)
                own = rows.index_select(0, place)
                present[:, column].zero_().index_fill_(0, place, True)
            if name in self.groups:
                end = behind + len(self.groups[name].numbers)
                own, segments[name] = self.groups[name].read(numbers[behind:end])
                behind = end
            signal = values.gather(own, self.lengths[name])
            if values.features is None:
                signals[name] = signal
            else:
                features[name] = values.features(signal)
        weights = source.weights.index_select(0, index)
        if self.own is not None:
            weights[self.own :] = 0
        return Batch(
            signals=signals,
            rows=places,
            present=present,
            targets=source.targets.index_select(0, index),
            weights=weights,
            index=self.index,
            features=features,
            segments=segments,
        )


def _copied(array: NDArray[Any], device: torch.device) -> Tensor:
    """An array on a device, copied piece by piece, as a whole copy in host memory may not fit."""
    rows = max(1, PIECE // max(1, array[:1].nbytes))
    pieces = (array[first : first + rows] for first in range(0, len(array), rows))
    dtype = torch.from_numpy(np.empty(0, array.dtype)).dtype
    copy, first = torch.empty(array.shape, dtype=dtype, device=device), 0
    for piece in pieces:
        copy[first : first + len(piece)] = torch.from_numpy(np.array(piece))
        first += len(piece)
    return copy
