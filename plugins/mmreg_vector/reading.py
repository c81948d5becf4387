"""Arrays of numbers from what a cell holds: an array or list, a .npy file, or a list as text."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmreg.errors import ValueLoadError
from mmreg.files import irregular
from mmreg.messages import one_line, shortened

MAX_BYTES = 1 << 30
"""Of a file: beyond that it is no vector of a row."""


def read_array(value: Any, missing: bool = False) -> NDArray[np.float32]:
    """Finite numbers in one or two axes, float32.

    Args:
        value: of a cell.
        missing: whether some may be NaN, or None in a list.

    Raises:
        ValueLoadError: the cell holds something else.
    """
    if isinstance(value, Path):
        # The text of a list is no path that leads anywhere, though it comes as one.
        value = _from_text(value.name) if value.name.startswith("[") else _from_file(value)
    elif isinstance(value, bytes):
        value = _from_npy(io.BytesIO(value), "its bytes")
    elif isinstance(value, str):
        value = _from_text(value)
    try:
        array = np.asarray(value)
        if missing and array.dtype.kind == "O":
            array = np.array(value, np.float64)  # None becomes NaN
    except (ValueError, TypeError, OverflowError) as error:
        told = "a list of different lengths, or of what is no number"
        raise ValueLoadError(f"{told}, where a vector is needed: {one_line(error)}") from error
    if array.dtype.kind not in "biuf":
        found = f"a {type(value).__name__}" if array.dtype.kind == "O" else f"values of the kind {array.dtype}"
        raise ValueLoadError(f"{found}, where a vector of numbers is needed")
    if array.ndim not in (1, 2) or not array.size:
        raise ValueLoadError(f"it has the shape {array.shape}, where a vector or a sequence of vectors is needed")
    with np.errstate(over="ignore"):
        numbers = array.astype(np.float32)
    wrong = np.isinf(numbers) if missing else ~np.isfinite(numbers)
    if wrong.any():
        where = np.argwhere(wrong)[0].tolist()
        raise ValueLoadError(f"it holds {array[tuple(where)]} at {where}, which is no finite number of float32")
    return numbers


def _from_text(text: str) -> Any:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, list):
        raise ValueLoadError(f"{shortened(text)!r} is neither the path of a .npy file nor a list such as [0.5, 1]")
    return found


def _from_file(path: Path) -> Any:
    what = irregular(path)
    if what:
        raise ValueLoadError(f"{path} is {what}, where a .npy file is needed")
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ValueLoadError(f"{path} has {path.stat().st_size:,} bytes, more than a vector's {MAX_BYTES:,}")
        with path.open("rb") as file:
            return _from_npy(file, str(path))
    except (OSError, ValueError) as error:
        if isinstance(error, ValueLoadError):
            raise
        told = "there is no such file" if isinstance(error, FileNotFoundError) else one_line(error)
        raise ValueLoadError(f"{path} cannot be read: {told}") from error


def _from_npy(file: Any, name: str) -> Any:
    try:
        array = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError, MemoryError, SyntaxError, TypeError) as error:
        raise ValueLoadError(f"{name} is no .npy file of numbers: {one_line(error)}") from error
    if not isinstance(array, np.ndarray):  # an archive of several
        raise ValueLoadError(f"{name} holds several arrays, where one is needed; save it by numpy.save")
    return array
