"""Computing what a frozen encoder gives for each value of its modality, batch by batch.

Axes: B batch, V values, T tokens, D features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmreg.contract.interfaces import Encoder, Modality, Outputs
from mmreg.contract.signals import Features
from mmreg.contract.spec import SEQUENCE, VECTOR, Spec, by_name
from mmreg.data.batches import Batches
from mmreg.data.decode import item_bytes
from mmreg.data.features import POOLED, STORED, TOKENS
from mmreg.data.journal import Work
from mmreg.data.prepared import Prepared
from mmreg.model.devices import autocast
from mmreg.model.seeding import generator

ROWS = 64
"""Values that are encoded at a time, at most."""
WINDOW = 8
"""Batches whose values are sorted by length, and written, together."""
LAYOUT = 1
"""The version of what is kept, and of how it is computed."""
ALIKE = 0.05
"""By what share of the largest feature a value's may differ alone and among others: less than any that depend on others
do, and more than any precision leaves."""


class NotEncodedError(Exception):
    """An encoder has to compute in each step; says why."""


@dataclass(frozen=True)
class Versions:
    """Which versions of which values are encoded.

    Attributes:
        values: (V,) int64, numbers of the values, ascending.
        copies: augmented versions of each; 0 for the plain one alone.
        seed: of the augmentation.
    """

    values: NDArray[np.int64]
    copies: int = 0
    seed: int = 0

    @property
    def count(self) -> int:
        """How many there are in all."""
        return len(self.values) * max(self.copies, 1)


@dataclass(frozen=True)
class _Window:
    """Values that are written together, which follow each other: places (B,) among all, in batches of like lengths."""

    copy: int
    first: int
    last: int
    batches: list[NDArray[np.int64]]


class FrozenInput:
    """A modality's values, and the encoder that they go through.

    Args:
        name: the input's.
        prepared: its values.
        modality: fitted.
        encoder: on the device, with its weights; it is left in evaluation mode.
        outputs: what it was built to give.
        device: where to compute.
        dtype: the precision of the forward pass.
        rows: values at a time, at most.

    Attributes:
        row_of: (V,) int64, of each value a row that has it, by which it is gathered.
        stored: what becomes of one value, by name; known after `look`.
        dtypes: what each of these was before it was stored; likewise.
    """

    def __init__(
        self,
        name: str,
        prepared: Prepared,
        modality: Modality,
        encoder: Encoder,
        outputs: Outputs,
        device: torch.device,
        dtype: torch.dtype,
        rows: int,
    ) -> None:
        self.name, self.prepared = name, prepared
        self.modality, self.encoder, self.outputs = modality, encoder, outputs
        self.device, self.dtype, self.rows = device, dtype, min(rows, ROWS)
        numbers, first_rows = np.unique(prepared.index, return_index=True)
        self.row_of: NDArray[np.int64] = first_rows[numbers >= 0]
        self.stored: dict[str, Spec] = {}
        self.dtypes: dict[str, torch.dtype] = {}

    def look(self, versions: Versions) -> float:
        """Encode a few values to see what they become, and whether that depends on them alone.

        Returns:
            The bytes of one of them, on the average.

        Raises:
            NotEncodedError: it does not.
        """
        some = np.arange(min(self.rows, len(versions.values)))
        half = some[: (len(some) + 1) // 2]
        plain = replace(versions, copies=0)  # of augmented ones no two are alike
        whole, part = self._batches(plain, [_Window(0, 0, len(some), [some]), _Window(0, 0, len(half), [half])])
        if whole.losses:
            raise NotEncodedError("its encoder adds losses of its own")
        arrays = {name: each for name in (POOLED, TOKENS) if (each := getattr(whole, name)) is not None}
        for name, each in arrays.items():
            other = getattr(part, name)
            axes = tuple(slice(min(own, others)) for own, others in zip(each.shape, other.shape, strict=True))
            ours, theirs = (values[axes].nan_to_num().float() for values in (_valid(whole, each), _valid(part, other)))
            if (ours - theirs).abs().max() > ALIKE * ours.abs().max():
                raise NotEncodedError("what its encoder gives for a row depends on the rows beside it, or on chance")
        ragged = any(spec.ragged_axis is not None for spec in by_name(self.modality.spec).values())
        self.dtypes = {name: each.dtype for name, each in arrays.items()}
        self.stored = {}
        for name, each in arrays.items():
            dtype = str(STORED.get(each.dtype, each.dtype)).removeprefix("torch.")
            if name == POOLED:
                self.stored[name] = Spec(VECTOR, (each.shape[1],), dtype)
            else:
                length = None if ragged or whole.mask is not None else each.shape[1]
                self.stored[name] = Spec(SEQUENCE, (length, each.shape[2]), dtype)
        steps = 0.0 if whole.tokens is None else float(whole.tokens.shape[1])
        if whole.mask is not None:
            steps = float(whole.mask.sum(1).float().mean())
        specs = self.stored.values()
        return sum(item_bytes(spec) * (1.0 if spec.ragged_axis is None else steps) for spec in specs)

    def encode(
        self, versions: Versions, work: Work, progress: Callable[[int, int], object] | None
    ) -> NDArray[np.int64] | None:
        """Encode all that is not done, and append it; where ragged ones begin, and the last one ends."""
        windows = [window for window in self._windows(versions) if window.last > len(work.sizes)]
        batches = self._batches(versions, windows)
        ragged = any(spec.ragged_axis is not None for spec in self.stored.values())
        for window in windows:
            rows: dict[str, dict[int, NDArray[Any]]] = {name: {} for name in self.stored}
            for places in window.batches:
                features = next(batches)
                for name in rows:
                    rows[name].update(zip(places.tolist(), self._taken(name, features), strict=True))
            written = range(window.first, window.last)
            for name, each in rows.items():
                for place in written:
                    work.out[name].write(np.ascontiguousarray(each[place]).reshape(-1).view(np.uint8).data)
            work.add([len(rows[TOKENS][place]) if ragged else 0 for place in written], [])
            if progress is not None:
                progress(len(work.sizes), versions.count)
        sizes = np.frombuffer(work.sizes, np.int64)
        return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64) if ragged else None

    def _windows(self, versions: Versions) -> Iterator[_Window]:
        """All versions in the order in which they are written; lengths decide which of them are encoded together."""
        each, size = len(versions.values), self.rows
        lengths = None if self.prepared.offsets is None else np.diff(self.prepared.offsets)[versions.values]
        for copy in range(max(versions.copies, 1)):
            for first in range(0, each, size * WINDOW):
                places = np.arange(first, min(first + size * WINDOW, each))
                if lengths is not None:
                    places = places[np.argsort(-lengths[places], kind="stable")]
                batches = [copy * each + places[at : at + size] for at in range(0, len(places), size)]
                yield _Window(copy, copy * each + first, copy * each + first + len(places), batches)

    def _batches(self, versions: Versions, windows: list[_Window]) -> Iterator[Features]:
        """The features of each batch, on the device."""
        rows, each = self.row_of[versions.values], len(versions.values)
        order = [places % each for window in windows for places in window.batches]
        sources = (
            generator(self.device, versions.seed, "augmented copy", window.copy, window.first, number)
            for window in windows
            for number in range(len(window.batches))
        )
        self.encoder.eval()
        given = Batches({self.name: self.prepared}, rows, order=order, prefetch=True)
        for batch, source in zip(given, sources, strict=True):
            signal = batch.to(self.device).signals[self.name]
            with torch.no_grad():  # for this thread, so as not to hold while the batch is away
                augments = versions.copies > 0
                signal = self.modality.transform(signal, training=augments, generator=source if augments else None)
                with autocast(self.device, self.dtype):
                    features: Features = self.encoder(signal)
            yield features

    def _taken(self, name: str, features: Features) -> Iterator[NDArray[Any]]:
        """One array of each row of a batch, in host memory, without padding."""
        values: Tensor = getattr(features, name)
        spec = self.stored[name]
        if values.dtype != self.dtypes[name] or values.shape[-1] != spec.shape[-1]:
            raise NotEncodedError("what its encoder gives changes its type or size from batch to batch")
        array = values.view(STORED.get(values.dtype, values.dtype)).cpu().numpy()
        if name == POOLED or (spec.ragged_axis is None and features.mask is None and array.shape[1] == spec.shape[0]):
            yield from array
            return
        if spec.ragged_axis is None:
            raise NotEncodedError("its encoder gives a number of tokens that it had not given before")
        if features.mask is None:
            yield from array
            return
        lengths = features.mask.sum(1).tolist()
        yield from (row[:length] for row, length in zip(array, lengths, strict=True))


def _valid(features: Features, values: Tensor) -> Tensor:
    """Values with zeros for tokens that are padding."""
    if features.mask is None or values is not features.tokens:
        return values
    return values.masked_fill(~features.mask[:, :, None], 0)
