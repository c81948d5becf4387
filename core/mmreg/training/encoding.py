"""What a frozen encoder gives for each value of its modality: computed once, and kept in the cache as values are.

A value's features depend on the value alone, as long as neither the encoder changes nor the modality augments. So all
of them are computed before the first epoch, and trainings with the same encoder find them again.

Axes: B batch, N rows, V values, T tokens, D features.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmreg.contract.interfaces import Encoder, Modality
from mmreg.contract.signals import Features
from mmreg.contract.spec import SEQUENCE, VECTOR, Spec, by_name, specs_from_json, specs_to_json
from mmreg.data.batches import Batches
from mmreg.data.cache import entries_dir
from mmreg.data.cached import CachedValues, files_of
from mmreg.data.checksums import DamagedEntryError
from mmreg.data.decode import item_bytes
from mmreg.data.entry import NewEntry, read_meta
from mmreg.data.features import POOLED, STORED, TOKENS, FeatureValues
from mmreg.data.journal import Work
from mmreg.data.key import code_facts
from mmreg.data.mapped import shaped
from mmreg.data.prepared import Prepared
from mmreg.messages import byte_size
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
        device: where to compute.
        dtype: the precision of the forward pass.
        rows: values at a time, at most.
        options: those of modality and encoder as JSON data, with hashes in the place of files.
    """

    def __init__(
        self,
        name: str,
        prepared: Prepared,
        modality: Modality,
        encoder: Encoder,
        device: torch.device,
        dtype: torch.dtype,
        rows: int,
        options: Mapping[str, Any],
    ) -> None:
        self.name, self.prepared, self.modality, self.encoder = name, prepared, modality, encoder
        self.device, self.dtype, self.rows, self._options = device, dtype, min(rows, ROWS), options
        # Of each value a row that has it: values are gathered by rows.
        numbers, first_rows = np.unique(prepared.index, return_index=True)
        self.row_of: NDArray[np.int64] = first_rows[numbers >= 0]
        self._stored: dict[str, Spec] = {}
        self._dtypes: dict[str, torch.dtype] = {}

    def is_cached(self, root: Path, versions: Versions) -> bool:
        """Whether the features are in the cache."""
        with suppress(DamagedEntryError):
            return read_meta(root, self.key(versions)) is not None
        return False

    def features(
        self, versions: Versions, cache: Path | None, progress: Callable[[int, int], object] | None
    ) -> tuple[Callable[..., FeatureValues], int]:
        """The features of some versions, found in the cache or computed.

        Args:
            versions: which.
            cache: the cache folder; None to keep them in memory.
            progress: told how many are done, and how many there are.

        Returns:
            What makes `FeatureValues` of them, given `index`; and their bytes.

        Raises:
            NotEncodedError: they are not of the value alone, or there is no room for them.
            CacheError: the cache folder cannot be written.
        """
        read = None
        if cache is None:
            self._look(versions)
            buffers = {array: io.BytesIO() for array in self._stored}
            work = Work(buffers)
            offsets = self._encode(versions, work, progress)
            arrays = {
                name: shaped(np.frombuffer(buffers[name].getbuffer(), np.uint8), spec, versions.count, own)
                for name, spec in self._stored.items()
                for own in [offsets if spec.ragged_axis is not None else None]
            }
        else:
            key = self.key(versions)
            if not self._recall(cache, key):
                self._look(versions, cache)

            def fill(new: NewEntry, show: bool) -> None:
                with new.growing(files_of(self._stored), self._code) as journal:
                    offsets = self._encode(versions, journal, progress if show else None)
                new.write_array("index.bin", np.arange(versions.count))
                if offsets is not None:
                    new.write_array("offsets.bin", offsets)
                new.complete(
                    {
                        "input": self.name,
                        "modality": type(self.encoder).__qualname__,
                        "store": "features",
                        "values": versions.count,
                        "stored": specs_to_json(self._stored),
                        "dtypes": {name: str(dtype).removeprefix("torch.") for name, dtype in self._dtypes.items()},
                    }
                )

            cached = CachedValues(
                cache, key, f"{self.name}, encoded,", self._stored, fill, lambda: key, to_the_bit=False
            )
            offsets, read = cached.entry.offsets, cached.array
            arrays = {name: mapped.array for name, mapped in cached.entry.arrays.items()}
        kept = {"name": self.name, "stored": self._stored, "values": arrays, "offsets": offsets, "read": read}
        made = lambda index: FeatureValues(dtypes=self._dtypes, index=index, **kept)  # noqa: E731
        return made, sum(array.nbytes for array in arrays.values())

    def key(self, versions: Versions) -> str:
        """The entry's key: all that the features depend on."""
        augmented = [versions.copies, versions.seed, self.rows, _digest([versions.values])] if versions.copies else None
        facts = {**self._facts, "augmented": augmented}
        return hashlib.blake2b(json.dumps(facts, sort_keys=True, default=str).encode(), digest_size=20).hexdigest()

    @cached_property
    def _facts(self) -> dict[str, Any]:
        parts = {"modality": self.modality, "encoder": self.encoder}
        tensors = {**dict(self.encoder.named_parameters()), **dict(self.encoder.named_buffers())}
        return {
            "layout": LAYOUT,
            "values": self.prepared.contents,
            "options": self._options,
            "weights": _digest(each.detach().cpu().reshape(-1).view(torch.uint8).numpy() for each in tensors.values()),
            "names": list(tensors),
            "code": self._code,
            "precision": str(self.dtype),
            "device": self.device.type,
            "torch": version("torch"),
            **{f"{kind} class": f"{type(part).__module__}.{type(part).__qualname__}" for kind, part in parts.items()},
            **{f"{kind} version": part.version for kind, part in parts.items()},
            **{f"{kind} state": part.state() for kind, part in parts.items()},
        }

    @cached_property
    def _code(self) -> str:
        return code_facts(self.modality) + code_facts(self.encoder)

    def _recall(self, root: Path, key: str) -> bool:
        """Take from an entry what the features are; False if there is none."""
        meta = None
        with suppress(DamagedEntryError):
            meta = read_meta(root, key)
        if meta is None:
            return False
        self._stored = by_name(specs_from_json(meta["stored"]))
        self._dtypes = {name: getattr(torch, dtype) for name, dtype in meta["dtypes"].items()}
        return True

    def _look(self, versions: Versions, root: Path | None = None) -> None:
        """Encode a few values to see what they become, and whether that depends on them alone.

        Raises:
            NotEncodedError: it does not, or there is no room for all.
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
        self._dtypes = {name: each.dtype for name, each in arrays.items()}
        self._stored = {}
        for name, each in arrays.items():
            dtype = str(STORED.get(each.dtype, each.dtype)).removeprefix("torch.")
            if name == POOLED:
                self._stored[name] = Spec(VECTOR, (each.shape[1],), dtype)
            else:
                length = None if ragged or whole.mask is not None else each.shape[1]
                self._stored[name] = Spec(SEQUENCE, (length, each.shape[2]), dtype)
        if root is not None:
            lengths = len(some) if whole.mask is None else int(whole.mask.sum())
            if whole.mask is None and ragged and whole.tokens is not None:
                lengths *= whole.tokens.shape[1]
            _check_room(root, self._stored, versions.count, lengths / len(some))

    def _encode(
        self, versions: Versions, work: Work, progress: Callable[[int, int], object] | None
    ) -> NDArray[np.int64] | None:
        """Encode all that is not done, and append it; where ragged ones begin, and the last one ends."""
        windows = [window for window in self._windows(versions) if window.last > len(work.sizes)]
        batches = self._batches(versions, windows)
        ragged = any(spec.ragged_axis is not None for spec in self._stored.values())
        for window in windows:
            rows: dict[str, dict[int, NDArray[Any]]] = {name: {} for name in self._stored}
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
        for batch, source in zip(
            Batches({self.name: self.prepared}, rows, order=order, prefetch=True), sources, strict=True
        ):
            signal = batch.to(self.device).signals[self.name]
            with torch.no_grad():  # for this thread, so as not to hold while the batch is away
                if versions.copies:
                    signal = self.modality.transform(signal, training=True, generator=source)
                else:
                    signal = self.modality.transform(signal, training=False)
                with autocast(self.device, self.dtype):
                    features: Features = self.encoder(signal)
            yield features

    def _taken(self, name: str, features: Features) -> Iterator[NDArray[Any]]:
        """One array of each row of a batch, in host memory, without padding."""
        values: Tensor = getattr(features, name)
        spec = self._stored[name]
        if values.dtype != self._dtypes[name] or values.shape[-1] != spec.shape[-1]:
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


def _check_room(root: Path, stored: Mapping[str, Spec], count: int, length: float) -> None:
    """Refuse features that do not fit on the disk, if their ragged ones are of this mean length.

    Raises:
        NotEncodedError: says how much they take and how much is free.
    """
    each = sum(item_bytes(spec) * (1 if spec.ragged_axis is None else length) for spec in stored.values())
    needed, place = math.ceil(each * count), entries_dir(root)
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if needed > free:
        raise NotEncodedError(
            f"its features would take about {byte_size(needed)} in the cache, and {byte_size(free)} are free there"
        )


def _digest(arrays: Any) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for array in arrays:
        digest.update(array.data)
    return digest.hexdigest()
