"""Files kept as they are, and decoded whenever they are gathered: slower than arrays, but many times smaller.

Axes: B batch, V values, T the ragged axis.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mmreg.contract.interfaces import Modality
from mmreg.contract.spec import Spec, by_name
from mmreg.data.decode import CellLoader, Loaded, item_bytes, num_workers
from mmreg.data.prepared import Prepared, Read
from mmreg.errors import CacheError, TableError

Store = Literal["decoded", "encoded"]
"""What is kept of a value: what `load` gives, or the bytes that it takes."""
FILE, SIZE = "file", "size"
"""The arrays of an entry: the files' bytes one after the other, and the size of each value that is made of one."""


class EncodedLoader(CellLoader):
    """Loads each value once, to see that it can be loaded and how large it is, and gives the bytes of its file.

    Args:
        modality: one that takes bytes, after `fit_values`.
    """

    def __init__(self, modality: Modality) -> None:
        super().__init__(modality)
        self.decoder = CellLoader(modality)
        self.stored = {FILE: Spec("T", (None,), "uint8"), SIZE: Spec("", (), "int64")}
        self.specs = by_name(self.stored)
        self.ragged = [FILE]

    def weight(self, value: Any) -> int:
        """The size of a file, which is not read for that."""
        try:
            return value.stat().st_size if isinstance(value, Path) else len(value) if isinstance(value, bytes) else 0
        except (OSError, ValueError):
            return 0

    def load(self, value: Any) -> Loaded | str | None:
        """A file's bytes, and the size of its value along the ragged axis; None and a cause as in `CellLoader`.

        Raises:
            TableError: the value is no file.
        """
        loaded = self.decoder.load(value)
        if not isinstance(loaded, Mapping):
            return loaded
        if not isinstance(value, Path | bytes):
            raise TableError(
                f"the modality {type(self.modality).__name__} is to keep files as they are (store: encoded), and the "
                f"table holds a {type(value).__name__}; leave store out, or name a column of files or of their bytes"
            )
        try:
            data = value.read_bytes() if isinstance(value, Path) else value
        except OSError as error:
            return f"the file cannot be read: {error.strerror or error}"
        return {FILE: np.frombuffer(data, np.uint8), SIZE: np.array(self.decoder.size(loaded), np.int64)}


class EncodedValues(Prepared):
    """The values of one modality, of which the files are kept, and decoded in several threads when they are gathered.

    Args:
        loader: what loaded the files.
        arrays: what it gave, by name.
        files: (V + 1,) int64, where each file begins and the last one ends.
        read: see `Prepared`.
        kept: what else `Prepared` takes.
    """

    whole = False

    def __init__(
        self,
        loader: EncodedLoader,
        arrays: Mapping[str, NDArray[Any]],
        files: NDArray[np.int64] | None,
        read: Read | None,
        **kept: Any,
    ) -> None:
        assert files is not None  # the files are ragged
        read = read or (lambda name, wanted: arrays[name])
        count = len(files) - 1
        sizes = read(SIZE, np.arange(count))
        self._decoder, self._files = loader.decoder, files
        offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64) if self._decoder.ragged else None
        super().__init__(stored=loader.modality.stored, values={}, offsets=offsets, read=read, **kept)
        self.nbytes = sum(
            item_bytes(spec) * (count if spec.ragged_axis is None else int(sizes.sum()))
            for spec in self._decoder.specs.values()
        )
        self._pool = ThreadPoolExecutor(num_workers(), thread_name_prefix="mmreg-decode")

    def arrays(self, rows: NDArray[np.int64]) -> Iterator[Any]:
        """What `load` gave for those of these rows that are present, one at a time."""
        present = self.index[self.places(rows[self.present[rows]])]
        part = 4 * num_workers()
        for first in range(0, len(present), part):
            for loaded in self._loaded(present[first : first + part]):
                yield loaded if self._is_named else loaded[""]

    def _taken(self, wanted: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        values = self._loaded(wanted)
        return {name: self._batch(name, [value[name] for value in values]) for name in self._names}

    def _batch(self, name: str, arrays: list[NDArray[Any]]) -> NDArray[Any]:
        """One array of each value as (B, ...), padded with zeros to the longest if it is ragged."""
        if self._specs[name].ragged_axis is None:
            return np.stack(arrays)
        padded = np.zeros((len(arrays), max(map(len, arrays)), *arrays[0].shape[1:]), arrays[0].dtype)
        for row, array in zip(padded, arrays, strict=True):
            row[: len(array)] = array
        return padded

    def _loaded(self, wanted: NDArray[np.int64]) -> list[Loaded]:
        """What `load` makes of these files, by their numbers (B,)."""
        data = self._read(FILE, wanted)
        # A task for each value would take as long as a small picture does.
        parts = np.array_split(wanted, min(len(wanted), 2 * num_workers()))
        decoded = self._pool.map(lambda numbers: [self._load(data, number) for number in numbers.tolist()], parts)
        return [loaded for part in decoded for loaded in part]

    def _load(self, data: NDArray[Any], number: int) -> Loaded:
        loaded = self._decoder.load(data[self._files[number] : self._files[number + 1]].tobytes())
        size = 0 if self.offsets is None else int(self.offsets[number + 1] - self.offsets[number])
        if isinstance(loaded, Mapping) and self._decoder.size(loaded) == size:
            return loaded
        cause = loaded if isinstance(loaded, str) else "it is of another size"
        raise CacheError(
            f"{self.name}: a file that could be loaded when it was prepared cannot be loaded now ({cause}); without "
            "store: encoded, arrays are kept instead of files"
        )
