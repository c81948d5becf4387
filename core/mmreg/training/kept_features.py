"""The features that frozen encoders give, in the cache as values are: found there, or computed into it.

A value's features depend on the value alone, as long as neither the encoder changes nor the modality augments. So
trainings with the same encoder find them again.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import shutil
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mmreg.contract.spec import by_name, specs_from_json, specs_to_json
from mmreg.data.cache import entries_dir
from mmreg.data.cached import CachedValues, files_of
from mmreg.data.checksums import DamagedEntryError
from mmreg.data.entry import NewEntry, read_meta
from mmreg.data.features import FeatureValues
from mmreg.data.journal import Work
from mmreg.data.key import code_facts
from mmreg.data.mapped import shaped
from mmreg.messages import byte_size
from mmreg.training.encoding import FrozenInput, NotEncodedError, Versions

LAYOUT = 1
"""The version of what is kept, and of how it is computed."""
Made = Callable[[NDArray[np.int64], NDArray[np.int64] | None], FeatureValues]
"""Makes features of rows, given `index` and `bounds` as `Prepared` has them, of versions in the place of values."""


class KeptFeatures:
    """The features of an input's values.

    Args:
        source: what computes them.
        options: of modality and encoder as JSON data, with hashes in the place of files.
        cache: the cache folder; None to keep features in memory.
        progress: told how many are done, and how many there are, as they are computed.
    """

    def __init__(
        self,
        source: FrozenInput,
        options: Mapping[str, Any],
        cache: Path | None,
        progress: Callable[[int, int], object] | None = None,
    ) -> None:
        self._source, self._options, self._cache, self._progress = source, options, cache, progress

    def are_there(self, versions: Versions) -> bool:
        """Whether the cache has them."""
        return self._cache is not None and self._meta(self._cache, self.key(versions)) is not None

    def get(self, versions: Versions) -> tuple[Made, int]:
        """The features of some versions, and their bytes.

        Raises:
            NotEncodedError: they are not of the value alone, or there is no room for them.
            CacheError: the cache folder cannot be written.
        """
        found = self._in_memory(versions) if self._cache is None else self._cached(self._cache, versions)
        source, size = self._source, sum(each.nbytes for each in found["values"].values())
        kept = {**found, "name": source.name, "stored": source.stored, "dtypes": source.dtypes}
        return lambda index, bounds: FeatureValues(index=index, bounds=bounds, **kept), size

    def _in_memory(self, versions: Versions) -> dict[str, Any]:
        self._source.look(versions)
        stored = self._source.stored
        buffers = {name: io.BytesIO() for name in stored}
        offsets = self._source.encode(versions, Work(buffers), self._progress)
        arrays = {}
        for name, spec in stored.items():
            own = None if spec.ragged_axis is None else offsets
            arrays[name] = shaped(np.frombuffer(buffers[name].getbuffer(), np.uint8), spec, versions.count, own)
        return {"values": arrays, "offsets": offsets}

    def _cached(self, root: Path, versions: Versions) -> dict[str, Any]:
        source, key = self._source, self.key(versions)
        meta = self._meta(root, key)
        if meta is None:
            _check_room(root, source.look(versions) * versions.count)
        else:
            source.stored = by_name(specs_from_json(meta["stored"]))
            source.dtypes = {name: getattr(torch, dtype) for name, dtype in meta["dtypes"].items()}

        def fill(new: NewEntry, show: bool) -> None:
            with new.growing(files_of(source.stored), self._code) as journal:
                offsets = source.encode(versions, journal, self._progress if show else None)
            new.write_array("index.bin", np.arange(versions.count))
            if offsets is not None:
                new.write_array("offsets.bin", offsets)
            new.complete(
                {
                    "input": source.name,
                    "modality": type(source.encoder).__qualname__,
                    "store": "features",
                    "values": versions.count,
                    "stored": specs_to_json(source.stored),
                    "dtypes": {name: str(dtype).removeprefix("torch.") for name, dtype in source.dtypes.items()},
                }
            )

        cached = CachedValues(root, key, f"{source.name}, encoded,", source.stored, fill, lambda: key, to_the_bit=False)
        arrays = {name: mapped.array for name, mapped in cached.entry.arrays.items()}
        return {"values": arrays, "offsets": cached.entry.offsets, "read": cached.array}

    def _meta(self, root: Path, key: str) -> dict[str, Any] | None:
        with suppress(DamagedEntryError):
            return read_meta(root, key)
        return None

    def key(self, versions: Versions) -> str:
        """The entry's key: all that the features depend on."""
        augmented = None
        if versions.copies:  # what is drawn for a value depends on those that are encoded beside it
            augmented = [versions.copies, versions.seed, self._source.rows, _digest([versions.values])]
        facts = {**self._facts, "augmented": augmented}
        return hashlib.blake2b(json.dumps(facts, sort_keys=True, default=str).encode(), digest_size=20).hexdigest()

    @cached_property
    def _facts(self) -> dict[str, Any]:
        source = self._source
        parts = {"modality": source.modality, "encoder": source.encoder}
        tensors = {**dict(source.encoder.named_parameters()), **dict(source.encoder.named_buffers())}
        return {
            "layout": LAYOUT,
            "values": source.prepared.contents,
            "options": self._options,
            "weights": _digest(each.detach().cpu().reshape(-1).view(torch.uint8).numpy() for each in tensors.values()),
            "tensors": {name: [str(each.dtype), list(each.shape)] for name, each in tensors.items()},
            "outputs": source.outputs,
            "code": self._code,
            "precision": str(source.dtype),
            "device": source.device.type,
            "torch": version("torch"),
            **{f"{kind} class": f"{type(part).__module__}.{type(part).__qualname__}" for kind, part in parts.items()},
            **{f"{kind} version": part.version for kind, part in parts.items()},
            **{f"{kind} state": part.state() for kind, part in parts.items()},
        }

    @cached_property
    def _code(self) -> str:
        return code_facts(self._source.modality) + code_facts(self._source.encoder)


def _digest(arrays: Iterable[NDArray[Any]]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for array in arrays:
        digest.update(array.data)
    return digest.hexdigest()


def _check_room(root: Path, needed: float) -> None:
    """Refuse features that take about so many bytes, if they do not fit on the disk.

    Raises:
        NotEncodedError: says how much they take and how much is free.
    """
    place = entries_dir(root)
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if needed > free:
        told = f"its features would take about {byte_size(math.ceil(needed))} in the cache"
        raise NotEncodedError(f"{told}, and {byte_size(free)} are free there")
