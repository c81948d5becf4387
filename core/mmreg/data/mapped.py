"""An entry's file mapped into memory, of which each block is compared with its checksum before it is first used."""

from __future__ import annotations

import mmap
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmreg.contract.spec import Spec
from mmreg.data.checksums import BLOCK_BYTES
from mmreg.data.entry import open_file


class MappedArray:
    """One array of an entry: nothing of it is read before it is used.

    A file that shrinks under the map ends a process that reads on, so its size is asked each time as well.

    Args:
        path: its file.
        spec: what one value is.
        count: V, how many values there are.
        offsets: (V + 1,) int64, where each ragged value begins and the last one ends; None if these are not ragged.
        size: the file's bytes.
        checksums: of each of its blocks.

    Attributes:
        array: (V, ...), or of ragged values (sum of T, ...); read-only.

    Raises:
        DamagedEntryError: the file is missing.
        ValueError: it is shorter than `size`.
    """

    def __init__(
        self,
        path: Path,
        spec: Spec,
        count: int,
        offsets: NDArray[np.int64] | None,
        size: int,
        checksums: Sequence[int],
    ) -> None:
        self._offsets = offsets
        self._name, self._size, self._checksums = path.name, size, checksums
        self._unchecked = np.ones(len(checksums), bool)
        self._any_unchecked = size > 0
        with open_file(path) as file:  # an empty file cannot be mapped
            self._map = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) if size else None
        self._bytes = np.frombuffer(b"" if self._map is None else self._map, np.uint8)
        self.array: NDArray[Any] = shaped(self._bytes, spec, count, offsets)

    def damage(self, wanted: NDArray[np.int64]) -> str:
        """What is wrong with some values, by their numbers (B,); nothing if they are as they were written."""
        if self._map is not None and self._map.size() < self._size:
            return f"{self._name} has {self._map.size():,} bytes instead of {self._size:,}"
        if not self._any_unchecked:
            return ""
        for block in self._unchecked_blocks(wanted):
            begin = block * BLOCK_BYTES
            if zlib.crc32(self._bytes[begin : begin + BLOCK_BYTES].data) != self._checksums[block]:
                return f"{self._name} is not as it was written, somewhere after byte {begin:,}"
            self._unchecked[block] = False
        # Another thread may do the same at the same time: both only ever turn blocks from unchecked to checked.
        self._any_unchecked = bool(self._unchecked.any())
        return ""

    def _unchecked_blocks(self, wanted: NDArray[np.int64]) -> list[int]:
        starts, ends = wanted, wanted + 1
        if self._offsets is not None:
            starts, ends = self._offsets[starts], self._offsets[ends]
        bytes_each = self._size // len(self.array)
        first, last = starts * bytes_each // BLOCK_BYTES, (ends * bytes_each - 1) // BLOCK_BYTES
        most = int((last - first).max(initial=0)) + 1
        blocks = np.unique(np.minimum(first[:, None] + np.arange(most), last[:, None]))
        touched: list[int] = blocks[self._unchecked[blocks]].tolist()
        return touched


def shaped(raw: NDArray[np.uint8], spec: Spec, count: int, offsets: NDArray[np.int64] | None) -> NDArray[Any]:
    """One array's bytes as its V values (V, ...); ragged ones as (sum of T, ...)."""
    if offsets is None:
        length, rest = count, spec.shape
    else:
        length, rest = int(offsets[-1]), spec.shape[1:]
    return raw.view(spec.dtype).reshape(length, *(size or 0 for size in rest))
