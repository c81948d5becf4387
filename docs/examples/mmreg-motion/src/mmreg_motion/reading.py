"""Reads recordings, never more than asked for, and brings them to one sampling rate.

Axes: T readings, C channels.
"""

from __future__ import annotations

import csv
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmreg.errors import ValueLoadError

LARGEST = 1e9
"""Far beyond any sensor's unit; what is larger would overflow when squared."""


def read_recording(value: Any, limit: int) -> NDArray[np.float32]:
    """The first `limit` readings of a recording.

    Args:
        value: the path of a .csv or .npy file, or an array (T, C); (T,) is one channel.
        limit: the greatest T.

    Returns:
        (T, C) with T >= 1, all finite.

    Raises:
        ValueLoadError: the value is no recording.
    """
    if isinstance(value, Path):
        readings = _read_file(value, limit)
    elif isinstance(value, np.ndarray | list | tuple):
        readings = _numbers(value)
    else:
        raise ValueLoadError(f"{type(value).__name__}, where a .csv or .npy file or an array (T, C) is needed")
    if readings.ndim == 1:
        readings = readings[:, None]
    if readings.ndim != 2 or readings.size == 0:
        raise ValueLoadError(f"an array of shape {readings.shape}, where (T, C) with at least one reading is needed")
    readings = readings[:limit].astype(np.float64)
    if not (np.abs(readings) <= LARGEST).all():  # also where it is NaN
        raise ValueLoadError("readings that are not finite, or larger than 1e9")
    return readings.astype(np.float32)


def resample(readings: NDArray[np.float32], source: float, target: float) -> NDArray[np.float32]:
    """Change the sampling rate of (T, C) readings by linear interpolation; both rates in Hz."""
    if source == target:
        return readings
    count = max(1, round(len(readings) * target / source))
    at = np.arange(count) * (source / target)
    columns = [np.interp(at, np.arange(len(readings)), column) for column in readings.T]
    return np.stack(columns, 1).astype(np.float32)


def _read_file(path: Path, limit: int) -> NDArray[Any]:
    readers = {".csv": _read_csv, ".npy": _read_npy}
    if path.suffix.lower() not in readers:
        raise ValueLoadError(f"a file that ends in {path.suffix or 'nothing'!r}, where .csv or .npy is needed")
    try:
        return readers[path.suffix.lower()](path, limit)
    except FileNotFoundError as error:
        raise ValueLoadError("no such file") from error
    except ValueLoadError:
        raise
    except (OSError, ValueError, csv.Error) as error:
        raise ValueLoadError(f"cannot be read: {error}") from error


def _read_npy(path: Path, limit: int) -> NDArray[Any]:
    # Mapped, so that a header which promises too much allocates nothing; an array of Python objects is refused.
    return _numbers(np.lib.format.open_memmap(path, mode="r")[:limit])


def _read_csv(path: Path, limit: int) -> NDArray[Any]:
    """The numbers of a CSV file; a first line that holds none is its header."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = [row for row in islice(csv.reader(file), limit + 1) if row]
    if rows and not _is_number(rows[0][0]):
        rows = rows[1:]
    widths = {len(row) for row in rows}
    if len(widths) > 1:
        raise ValueLoadError(f"lines of {' and '.join(map(str, sorted(widths)))} numbers, where all need as many")
    return np.array([[float(cell) for cell in row] for row in rows], np.float64)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _numbers(value: Any) -> NDArray[Any]:
    try:
        array = np.asarray(value)
    except ValueError as error:  # lists of differing lengths
        raise ValueLoadError(f"no array of numbers: {error}") from error
    if array.dtype.kind not in "iuf":
        raise ValueLoadError(f"an array of {array.dtype}, where numbers are needed")
    return array
