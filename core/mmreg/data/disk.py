"""Whether a disk has room for what is about to be prepared, told before the work begins."""

from __future__ import annotations

import math
import shutil
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmreg.data.decode import CellLoader, item_bytes
from mmreg.data.encoded import EncodedLoader
from mmreg.errors import CacheError
from mmreg.messages import byte_size, plural

SAMPLE = 32
"""Values that are looked at to tell how large all of them are."""
SHARE = 16
"""One of so many values is looked at, at most: loading them takes a sixteenth of the time to load all."""
FEW = 8
"""Values that are looked at first: one core loads them while the others wait."""
PLENTY = 16
"""Where the largest of these would fit so many times as often as there are values, no more are looked at."""


def check_disk(
    root: Path, name: str, loader: CellLoader, cells: Callable[[NDArray[np.int64]], Iterator[Any]], count: int
) -> None:
    """Refuse to begin with what does not fit on the disk.

    Values of one size are reckoned; of others a sample is loaded, and the least counts that it leaves likely. Where a
    few of them leave no doubt that there is room, these are enough.

    Args:
        root: the cache folder, which is there.
        name: the modality's, for the message.
        loader: what loads a value.
        cells: gives the values of some of the cells, by their numbers (S,).
        count: how many cells there are.

    Raises:
        CacheError: says how much is needed, how much is free, and what to do.
    """
    free = shutil.disk_usage(root).free
    if loader.ragged:
        largest = max(_weights(loader, cells, count, min(FEW, _sample(count))), default=0)
        if 0 < PLENTY * count * largest <= free:
            return
    needed = least_bytes(loader, cells, count)
    if needed <= free:
        return
    advice = "free some space (mmreg cache prune), or let MMREG_CACHE_DIR name a folder on another disk"
    if not isinstance(loader, EncodedLoader) and loader.modality.takes_bytes:
        encoded = least_bytes(EncodedLoader(loader.modality), cells, count)
        if encoded <= free:
            advice += f"; store: encoded keeps the files as they are, which takes about {byte_size(encoded)}"
    raise CacheError(
        f"{plural(count, 'value')} of {name} take about {byte_size(needed)} in the cache, and {byte_size(free)} are "
        f"free on the disk of {root}; {advice}"
    )


def least_bytes(loader: CellLoader, cells: Callable[[NDArray[np.int64]], Iterator[Any]], count: int) -> float:
    """About how many bytes these values take at least; 0 if they are too few to tell."""
    if not loader.ragged:
        return float(count * sum(item_bytes(spec) for spec in loader.specs.values()))
    size = _sample(count)
    if not size:
        return 0.0
    sizes = _weights(loader, cells, count, size)
    return count * max(0.0, statistics.mean(sizes) - 2 * statistics.stdev(sizes) / math.sqrt(size))


def _sample(count: int) -> int:
    """How many of so many values are looked at; none where one alone would be."""
    size = min(SAMPLE, count // SHARE)
    return size if size > 1 else 0


def _weights(
    loader: CellLoader, cells: Callable[[NDArray[np.int64]], Iterator[Any]], count: int, size: int
) -> list[int]:
    """The bytes of so many of the values, from the first to the last one."""
    return [loader.weight(value) for value in cells(np.linspace(0, count - 1, size).astype(np.int64))]
