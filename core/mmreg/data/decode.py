"""Loading values in parallel and writing them one after the other, with bounded memory."""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from mmreg.contract.interfaces import Modality
from mmreg.contract.spec import Spec
from mmreg.data.cells import Unreadable
from mmreg.errors import SpecError, ValueLoadError

CHUNK_BYTES = 1 << 22
"""About how many bytes one task loads; a few tasks a worker are under way at a time."""
MAX_CHUNK = 256
FIRST_CHUNK = 16
"""Values in a task as long as nothing is known about their size."""
CAUSE_LENGTH = 300


@dataclass(frozen=True)
class Decoded:
    """What was written.

    Attributes:
        position: (S,) int64, the place of each of the S values in the file; -1 for those that are not there.
        offsets: (V + 1,) int64, for ragged values: where each of the V written ones begins, and the last one ends.
        causes: for each value that could not be loaded, why.
    """

    position: NDArray[np.int64]
    offsets: NDArray[np.int64] | None
    causes: dict[int, str]


def decode(
    modality: Modality,
    values: Iterator[Any],
    total: int,
    out: IO[bytes],
    progress: Callable[[int, int], object] | None = None,
) -> Decoded:
    """Load values and append their arrays to a file, in order.

    Args:
        modality: whose `load` is called, from several threads.
        values: what `iter_cells` gives; those that are None (absent) are left out.
        total: how many there are.
        out: where the bytes go.
        progress: called with how many are done, and the total.

    Raises:
        SpecError: `load` gives something else than `stored` says, which is an error in the modality's code.
    """
    stored = modality.stored
    ragged = stored.ragged_axis is not None
    position = np.full(total, -1, np.int64)
    lengths: list[int] = []
    causes: dict[int, str] = {}
    done = written = written_bytes = 0
    # Closed at once when this raises, so that no thread goes on behind an error or Ctrl-C.
    with closing(_in_parallel(modality, values, lambda: _chunk_size(stored, written, written_bytes))) as chunks:
        for results in chunks:
            for slot, result in enumerate(results, done):
                if isinstance(result, str):
                    causes[slot] = result
                elif result is not None:
                    out.write(np.ascontiguousarray(result).reshape(-1).view(np.uint8).data)
                    position[slot] = written
                    written += 1
                    written_bytes += result.nbytes
                    if ragged:
                        lengths.append(len(result))
            done += len(results)
            if progress is not None:
                progress(done, total)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64) if ragged else None
    return Decoded(position, offsets, causes)


def _chunk_size(stored: Spec, written: int, written_bytes: int) -> int:
    if stored.ragged_axis is None:
        each = int(np.prod([size or 1 for size in stored.shape])) * np.dtype(stored.dtype).itemsize
    elif written:
        each = written_bytes // written
    else:
        return FIRST_CHUNK
    return max(1, min(MAX_CHUNK, CHUNK_BYTES // max(each, 1)))


def _in_parallel(
    modality: Modality, values: Iterator[Any], chunk_size: Callable[[], int]
) -> Generator[list[NDArray[Any] | str | None], None, None]:
    """The results of chunk after chunk; a few are loaded ahead."""
    workers = _num_workers()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="mmreg-load")
    pending: deque[Future[list[NDArray[Any] | str | None]]] = deque()
    try:
        while chunk := list(itertools.islice(values, chunk_size())):
            pending.append(pool.submit(_load_all, modality, chunk))
            if len(pending) > 2 * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _num_workers() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        return os.cpu_count() or 1


def _load_all(modality: Modality, values: list[Any]) -> list[NDArray[Any] | str | None]:
    return [_load(modality, value) for value in values]


def _load(modality: Modality, value: Any) -> NDArray[Any] | str | None:
    """A value's array; None if it is absent, and the cause if it cannot be loaded."""
    if value is None:
        return None
    if isinstance(value, Unreadable):
        return value.cause
    try:
        array = modality.load(value)
    except Exception as error:  # whatever a broken file makes a decoder raise must not end the whole preparation
        said = str(error) if isinstance(error, ValueLoadError) else f"{type(error).__name__}: {error}"
        return _shorten(_path_problem(value) or said or type(error).__name__)
    _check(modality, array)
    return array if array.ndim == 0 or len(array) or modality.stored.ragged_axis is None else "nothing is in it"


def _path_problem(value: Any) -> str | None:
    """What is wrong with the file, or one of the files, that a value names, whatever it holds."""
    if isinstance(value, dict):
        return next(filter(None, map(_path_problem, value.values())), None)
    if not isinstance(value, Path):
        return None
    try:
        if value.is_dir():
            return f"{value} is a folder, not a file"
        return None if value.exists() else f"there is no file {value}"
    except (OSError, ValueError) as error:  # a name that is too long
        return f"not the name of a file: {error}"


def _shorten(cause: str) -> str:
    line = " ".join(cause.split())
    return line if len(line) <= CAUSE_LENGTH else f"{line[:CAUSE_LENGTH]}..."


def _check(modality: Modality, array: Any) -> None:
    stored = modality.stored
    if isinstance(array, np.ndarray):
        fits = len(array.shape) == len(stored.shape) and all(
            expected in (None, size) for size, expected in zip(array.shape, stored.shape, strict=True)
        )
        if fits and array.dtype == np.dtype(stored.dtype):
            return
        found = f"an array {array.shape} of {array.dtype}"
    else:
        found = f"a {type(array).__name__}"
    raise SpecError(
        f"the modality {type(modality).__name__} promises {stored} in `stored`, but its `load` gave {found}; "
        "this is an error in the modality, not in the data"
    )
