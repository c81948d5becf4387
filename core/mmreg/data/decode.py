"""Loading values in parallel and writing them one after the other, with bounded memory."""

from __future__ import annotations

import itertools
import math
import os
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmreg.contract.engine import Engine
from mmreg.contract.interfaces import Modality
from mmreg.contract.spec import Spec, Specs, by_name, specs_text
from mmreg.data.cells import several
from mmreg.data.journal import ABSENT, BAD, Work
from mmreg.data.located import Unreadable
from mmreg.errors import SpecError, ValueLoadError
from mmreg.messages import listed, one_line
from mmreg.registry.elsewhere import compute_elsewhere

CHUNK_BYTES = 1 << 22
"""About how many bytes one task loads; a few tasks a worker are under way at a time."""
MAX_CHUNK = 256
FIRST_CHUNK = 16
"""Values in a task as long as nothing is known about their size."""
LAST_CHUNK = 8
"""Values in the last tasks, at least, unless they are large."""

Loaded = Mapping[str, NDArray[Any]]
"""A value's arrays by name; of one array alone, under the empty name."""


@dataclass(frozen=True)
class Decoded:
    """What was written.

    Attributes:
        position: (S,) int64, the place of each of the S values in the files; -1 for those that are not there.
        offsets: (V + 1,) int64, for ragged values: where each of the V written ones begins, and the last one ends.
        causes: for each value that could not be loaded, why.
    """

    position: NDArray[np.int64]
    offsets: NDArray[np.int64] | None
    causes: dict[int, str]


def decode(
    loader: CellLoader,
    values: Iterator[Any],
    total: int,
    work: Work,
    progress: Callable[[int, int], object] | None = None,
    engine: Engine | None = None,
) -> Decoded:
    """Load values and append their arrays to files, in order.

    Args:
        loader: what loads one, from several threads.
        values: what `iter_cells` gives, from the first on that is not done; those that are None (absent) are left out.
        total: how many there are.
        work: where they go, and what of them is done already.
        progress: called with how many are done, and the total.
        engine: what loads them; threads of this process if not given.

    Raises:
        SpecError: `load` gives something else than `stored` says, which is an error in the modality's code.
    """
    loaded = loaded_bytes = 0
    # Closed at once when this raises, so that no thread goes on behind an error or Ctrl-C.
    chunk_size = lambda: _chunk_size(loader.specs, loaded, loaded_bytes)  # noqa: E731 (it sees the counts grow)
    in_parallel = _in_parallel if engine is None else partial(_elsewhere, engine)
    parallel = in_parallel(loader, values, chunk_size, total - len(work.sizes))
    with closing(parallel) as chunks:
        for results in chunks:
            sizes: list[int] = []
            causes: list[str] = []
            for result in results:
                if isinstance(result, str):
                    sizes.append(BAD)
                    causes.append(result)
                elif result is None:
                    sizes.append(ABSENT)
                else:
                    for name, file in work.out.items():
                        file.write(np.ascontiguousarray(result[name]).reshape(-1).view(np.uint8).data)
                        loaded_bytes += result[name].nbytes
                    loaded += 1
                    sizes.append(loader.size(result))
            work.add(sizes, causes)
            if progress is not None:
                progress(len(work.sizes), total)
    return _decoded(work, bool(loader.ragged))


def _decoded(work: Work, ragged: bool) -> Decoded:
    sizes = np.frombuffer(work.sizes, np.int64) if work.sizes else np.zeros(0, np.int64)
    loaded = sizes >= 0
    position = np.where(loaded, np.cumsum(loaded) - 1, -1)
    offsets = np.concatenate([[0], np.cumsum(sizes[loaded])]).astype(np.int64) if ragged else None
    return Decoded(position, offsets, dict(zip(np.flatnonzero(sizes == BAD).tolist(), work.causes, strict=True)))


def _chunk_size(stored: Mapping[str, Spec], loaded: int, loaded_bytes: int) -> int:
    if all(spec.ragged_axis is None for spec in stored.values()):
        each = sum(item_bytes(spec) for spec in stored.values())
    elif loaded:
        each = loaded_bytes // loaded
    else:
        return FIRST_CHUNK
    return max(1, min(MAX_CHUNK, CHUNK_BYTES // max(each, 1)))


def _in_parallel(
    loader: CellLoader, values: Iterator[Any], chunk_size: Callable[[], int], remaining: int
) -> Generator[list[Loaded | str | None], None, None]:
    """The results of chunk after chunk; a few are loaded ahead.

    Towards the end the chunks get smaller, so that no worker has a large one while the others have none.
    """
    workers = num_workers()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="mmreg-load")
    pending: deque[Future[list[Loaded | str | None]]] = deque()
    try:
        while chunk := list(itertools.islice(values, min(chunk_size(), max(LAST_CHUNK, remaining // (2 * workers))))):
            remaining -= len(chunk)
            pending.append(pool.submit(loader.load_all, chunk))
            if len(pending) > 2 * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _elsewhere(
    engine: Engine, loader: CellLoader, values: Iterator[Any], chunk_size: Callable[[], int], remaining: int
) -> Generator[list[Loaded | str | None]]:
    """The results of chunk after chunk, each loaded by an engine's worker."""
    size = chunk_size()  # of all, as nothing is known yet when they are sent
    count = -(-remaining // size)
    chunks = (list(itertools.islice(values, size)) for _ in range(count))
    return compute_elsewhere(engine, loader.load_all, chunks, count)


def item_bytes(spec: Spec) -> int:
    """The bytes of one value, or of one step along its ragged axis."""
    return math.prod(1 if size is None else size for size in spec.shape) * np.dtype(spec.dtype).itemsize


def num_workers() -> int:
    """How many values are loaded at a time."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        return os.cpu_count() or 1


class CellLoader:
    """Loads a modality's values, and checks what `load` gives against what `stored` promises.

    Args:
        modality: after `fit_values`.

    Attributes:
        stored: what becomes of one value.
        specs: the same by name.
        ragged: the names of those that have a ragged axis.
    """

    def __init__(self, modality: Modality) -> None:
        self.modality = modality
        self.stored: Specs = modality.stored
        self.specs = by_name(self.stored)
        self._dtypes = {name: np.dtype(spec.dtype) for name, spec in self.specs.items()}
        self.ragged = [name for name, spec in self.specs.items() if spec.ragged_axis is not None]

    def load_all(self, values: list[Any]) -> list[Loaded | str | None]:
        """What becomes of each value: see `load`."""
        return [self.load(value) for value in values]

    def size(self, loaded: Loaded) -> int:
        """A value's size along the ragged axis; 0 where there is none."""
        return len(loaded[self.ragged[0]]) if self.ragged else 0

    def weight(self, value: Any) -> int:
        """How many bytes are written for a value; 0 where it is absent or cannot be loaded."""
        loaded = self.load(value)
        return sum(array.nbytes for array in loaded.values()) if isinstance(loaded, Mapping) else 0

    def load(self, value: Any) -> Loaded | str | None:
        """A value's arrays; None if it is absent, and the cause if it cannot be loaded."""
        if value is None:
            return None
        if isinstance(value, Unreadable):
            return value.cause
        try:
            loaded = self.modality.load(value)
        except KeyboardInterrupt:
            raise
        except MemoryError as error:
            return f"there is not enough memory to load it ({one_line(error)})"
        except BaseException as error:  # whatever a broken file makes a decoder raise, a panic of one in Rust included
            return _list_problem(value) or _path_problem(value, error) or one_line(error) or type(error).__name__
        arrays = loaded if isinstance(loaded, Mapping) else {"": loaded}
        found = self._misfit(arrays)
        if found:
            raise SpecError(
                f"the modality {type(self.modality).__name__} promises {specs_text(self.modality.stored)} in `stored`, "
                f"but its `load` gave {found}; this is an error in the modality, not in the data"
            )
        return "nothing is in it" if self.ragged and not len(arrays[self.ragged[0]]) else arrays

    def _misfit(self, arrays: Mapping[str, Any]) -> str:
        """What `load` gave, if that is not what `stored` promises; nothing if it is."""
        if arrays.keys() != self.specs.keys():
            return _described(arrays[""]) if "" in arrays else f"the arrays {listed(arrays) or '(none)'}"
        for name, spec in self.specs.items():
            if not _fits(arrays[name], spec, self._dtypes[name]):
                return _described(arrays[name]) + (f" for {name!r}" if name else "")
        if len({len(arrays[name]) for name in self.ragged}) > 1:
            lengths = listed(f"{len(arrays[name])} of {name!r}" for name in self.ragged)
            return f"arrays that differ in length along the ragged axis, which they share: {lengths}"
        return ""


def _list_problem(value: Any) -> str | None:
    """What is wrong with a list that holds no numbers, such as paths."""
    is_list = isinstance(value, np.ndarray) and value.ndim == 1 and value.dtype.kind in "UO"
    return several(len(value)) if is_list else None


def _path_problem(value: Any, error: BaseException) -> str | None:
    """What is wrong with the file, or one of the files, that a value names, whatever it holds.

    A folder is wrong unless the modality itself says what is wrong with it: it may take folders.
    """
    if isinstance(value, dict):
        return next((found for part in value.values() if (found := _path_problem(part, error))), None)
    if not isinstance(value, Path):
        return None
    is_list = any(mark in str(value) for mark in ("|", '["'))
    hint = "; to read several of a cell, set many and separator" if is_list else ""
    try:
        if value.is_dir():
            return None if isinstance(error, ValueLoadError) else f"{value} is a folder, not a file"
        return None if value.exists() else f"there is no file {value}{hint}"
    except (OSError, ValueError) as wrong:  # a name that is too long
        return f"not the name of a file: {wrong}"


def _fits(array: Any, spec: Spec, dtype: np.dtype[Any]) -> bool:
    if not isinstance(array, np.ndarray) or array.dtype != dtype:
        return False
    if spec.ragged_axis is None:
        return bool(array.shape == spec.shape)
    return bool(array.ndim == len(spec.shape) and array.shape[1:] == spec.shape[1:])


def _described(array: Any) -> str:
    if isinstance(array, np.ndarray):
        return f"an array {array.shape} of {array.dtype}"
    return f"a {type(array).__name__}"
