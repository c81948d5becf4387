"""Which cells are equal: as numbers, one for each distinct value, made a column at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mmreg.contract.target_values import in_order
from mmreg.data.cells import iter_column
from mmreg.data.hashing import is_bytes, is_text
from mmreg.data.table import Table


def text_codes(table: Table, column: str, *, paths: bool) -> NDArray[np.int64]:
    """For each cell of a column of texts (N,), a number that equal ones share; -1 for null.

    Paths are equal if their folders are, too.
    """
    codes = _codes(table.column(column))
    if not paths:
        return codes
    folders = table.folder_numbers().astype(np.int64)
    num_folders = folders.max(initial=0) + 1
    return codes if num_folders == 1 else np.where(codes < 0, -1, codes * num_folders + folders)


def _codes(cells: pa.ChunkedArray) -> NDArray[np.int64]:
    """For each cell (N,), a number that equal ones share; -1 for null."""
    encoded = cells.dictionary_encode().unify_dictionaries()
    parts = [
        pc.fill_null(chunk.indices.cast(pa.int64()), -1).to_numpy(zero_copy_only=False) for chunk in encoded.chunks
    ]
    return np.concatenate([np.zeros(0, np.int64), *parts])


def cell_codes(table: Table, columns: Sequence[str], *, paths: bool) -> NDArray[np.int64]:
    """For each row (N,), the number of its cell among the distinct ones, 0, 1, 2, ... in the order of their first rows.

    Only the texts of a single column are compared; other cells all count as distinct.
    """
    if len(columns) != 1 or columns[0] in table.objects or not is_text(table.column(columns[0]).type):
        return np.arange(len(table), dtype=np.int64)
    codes = text_codes(table, columns[0], paths=paths)
    codes += 1  # null is -1
    return in_order(codes, int(codes.max(initial=0)) + 1)[1]


def value_codes(table: Table, column: str, *, paths: bool) -> NDArray[np.int64]:
    """For each cell of a column (N,), a number that equal ones share; -1 for those that are absent.

    Bytes, lists and the like are compared by a hash of their values.
    """
    kind = table.column(column).type
    if is_text(kind) and column not in table.objects:
        codes = text_codes(table, column, paths=paths)
        empty = pc.fill_null(pc.equal(pc.utf8_length(table.column(column)), 0), True)
        return np.where(empty.to_numpy(), -1, codes)
    if (pa.types.is_primitive(kind) or pa.types.is_decimal(kind)) and column not in table.objects:
        cells = table.column(column)
        cells = cells.cast(pa.float32()) if pa.types.is_float16(kind) else cells  # whose bits Arrow 26 would compare
        codes = _codes(cells)
        return np.where(pc.is_null(cells, nan_is_null=True).to_numpy(), -1, codes)
    numbers: dict[bytes, int] = {}
    codes = np.full(len(table), -1, np.int64)
    for row, value in enumerate(iter_column(table, column, paths=paths)):
        if value is not None:
            codes[row] = numbers.setdefault(_digest(value), len(numbers))
    return codes


def _digest(value: Any) -> bytes:
    if isinstance(value, np.ndarray):
        data = f"{value.dtype}{value.shape}".encode() + value.tobytes()
    elif isinstance(value, dict):
        data = b"".join(f"\0{name}\0".encode() + _digest(part) for name, part in value.items())
    else:
        data = value if isinstance(value, bytes) else f"{type(value).__name__} {value}".encode(errors="surrogatepass")
    return hashlib.blake2b(data, digest_size=16).digest()


def is_comparable(table: Table, column: str) -> bool:
    """Whether equal cells of a column mean the same sample: not so for numbers, which are equal by chance."""
    kind = table.column(column).type
    return column in table.objects or is_text(kind) or is_bytes(kind) or bool(pa.types.is_nested(kind))
