"""From a table's cells to the values that a modality's `load` takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mmreg.contract.interfaces import Modality
from mmreg.data.hashing import is_any_list, is_list, is_text
from mmreg.data.located import Unreadable
from mmreg.data.memory import as_array
from mmreg.data.table import CHUNK, Table
from mmreg.errors import TableError
from mmreg.messages import listed, plural

SIZE = 64
"""Cells that are turned into values at a time, whatever their size; of small ones there are more, up to `CHUNK`."""
PIECE = 1 << 16
"""About how many bytes of small cells are turned into values at a time."""


def iter_cells(
    modality: Modality, table: Table, columns: Sequence[str], rows: NDArray[np.int64] | None = None
) -> Iterator[Any]:
    """The values of some rows (None: of all, in order), as the modality's `load` takes them; None where absent.

    Null, an empty text, an empty list and NaN are absent. Text is text, or if the modality takes paths, a path resolved
    against the table's folder; of a file that is elsewhere, its copy's path. Bytes are bytes; lists and tensors are
    arrays; a struct of `bytes` and `path` (as the datasets library keeps images and sounds) is its bytes or else its
    path; another struct is a dict; a number is a number. A modality of several columns gets a dict of them, absent if
    all of them are. What cannot become any of these is `Unreadable`.

    Raises:
        TableError: the table lacks a column, or the modality takes one column and there are several.
    """
    if modality.multiple_columns:
        parts = [iter_column(table, column, paths=modality.paths, rows=rows) for column in columns]
        for values in zip(*parts, strict=True):
            broken = next((value for value in values if isinstance(value, Unreadable)), None)
            absent = all(value is None for value in values)
            yield broken or (None if absent else dict(zip(columns, values, strict=True)))
        return
    if len(columns) != 1:
        raise TableError(f"the modality {type(modality).__name__} takes one column, found {listed(columns)}")
    yield from iter_column(table, columns[0], paths=modality.paths, rows=rows)


def iter_present(
    modality: Modality, table: Table, columns: Sequence[str], rows: NDArray[np.int64] | None = None
) -> Iterator[Any]:
    """The values of those of the rows that have one, as `fit_values` takes them."""
    for value in iter_cells(modality, table, columns, rows):
        if value is not None and not isinstance(value, Unreadable):
            yield value


def iter_column(table: Table, column: str, *, paths: bool, rows: NDArray[np.int64] | None = None) -> Iterator[Any]:
    """One column's values as `iter_cells` describes them; `paths` says whether texts are paths."""
    objects = table.objects.get(column)
    each = table.column(column).nbytes // max(len(table), 1) + 1
    for at, piece in table.pieces(column, rows, size=min(max(PIECE // each, SIZE), CHUNK)):
        if objects is not None:
            yield from (None if n is None else _object(objects[n]) for n in piece.to_pylist())
        else:
            values = _values(piece, partial(table.located, at) if paths else None)
            if is_list(piece.type):
                values = [None if isinstance(value, np.ndarray) and not len(value) else value for value in values]
            yield from values


def iter_paths(table: Table, column: str, rows: NDArray[np.int64]) -> Iterator[str | None]:
    """The files that the cells of some rows name, resolved; None where a cell names none or holds its own bytes.

    They are texts: half a million of them as `Path` would take seconds. What is elsewhere is fetched; what cannot be is
    called as the cell does.
    """
    kind = table.column(column).type
    fields = {field.name: field.type for field in kind} if pa.types.is_struct(kind) else {}
    for at, piece in table.pieces(column, rows):
        if "path" in fields:
            named = pc.struct_field(piece, "path")
            inside = pc.is_valid(pc.struct_field(piece, "bytes")) if "bytes" in fields else False
            piece = pc.if_else(inside, pa.scalar(None, named.type), named)
        if is_text(piece.type):
            texts = piece.to_pylist()
            for text, file in zip(texts, table.located(at, texts), strict=True):
                yield text if isinstance(file, Unreadable) else file
        else:
            yield from [None] * len(piece)


def several(count: int) -> str:
    """Why a cell of several values is not read as one."""
    return f"this cell holds {plural(count, 'value')}; set many: mean (or max, attention, tokens) to read a list"


def _object(value: Any) -> NDArray[Any] | Unreadable:
    """A Python object as an array."""
    return Unreadable(several(len(value))) if isinstance(value, list | tuple) else as_array(value)


Locate = Callable[[Sequence[str | None]], Sequence[str | Unreadable | None]]
"""Finds the files that texts name."""


def _values(array: pa.Array, locate: Locate | None) -> list[Any]:
    """An array's values; texts are paths if there is something that finds their files."""
    kind = array.type
    if is_text(kind):
        texts = array.to_pylist()
        if locate is None:
            return [text or None for text in texts]
        return [Path(file) if isinstance(file, str) else file for file in locate(texts)]
    if isinstance(kind, pa.FixedShapeTensorType):
        tensors = np.array(array.to_numpy_ndarray() if array.null_count == 0 else _filled(array))
        return [tensor if valid else None for tensor, valid in zip(tensors, array.is_valid().to_pylist(), strict=True)]
    if is_any_list(kind):
        return [_list_value(cell.values) if cell.is_valid else None for cell in array]
    if pa.types.is_struct(kind):
        return _structs(array, locate)
    values: list[Any] = array.to_pylist()
    if pa.types.is_floating(kind):
        return [None if value is None or value != value else value for value in values]
    return values


def _structs(array: pa.Array, locate: Locate | None) -> list[Any]:
    names = [field.name for field in array.type]
    children = dict(zip(names, array.flatten(), strict=True))
    if _is_file(array.type):  # where there are bytes, no file is looked for
        children["path"] = pc.if_else(children["bytes"].is_valid(), None, children["path"])
    parts = {name: _values(child, locate if name == "path" else None) for name, child in children.items()}
    if _is_file(array.type):
        pairs = zip(parts["bytes"], parts["path"], strict=True)
        return [data if data is not None else path for data, path in pairs]
    cells = zip(*parts.values(), strict=True) if parts else [()] * len(array)
    valid = array.is_valid().to_pylist()
    return [_struct(names, cell) if there else None for cell, there in zip(cells, valid, strict=True)]


def _struct(names: Sequence[str], cell: Sequence[Any]) -> Any:
    """A struct as a dict; unreadable where the file that it names is."""
    broken = next((part for part in cell if isinstance(part, Unreadable)), None)
    return broken or dict(zip(names, cell, strict=True))


def _list_value(values: pa.Array) -> NDArray[Any] | Unreadable:
    """A (nested) list as one array."""
    shape = [len(values)]
    while is_any_list(values.type):
        lengths = pc.unique(pc.list_value_length(values)).to_pylist()
        if values.null_count or len(lengths) > 1:
            return Unreadable("a nested list whose parts differ in length")
        shape.append(lengths[0] if lengths else 0)
        values = values.flatten()
    if pa.types.is_primitive(values.type):
        return np.array(values.to_numpy(zero_copy_only=False)).reshape(shape)
    if is_text(values.type):
        return np.array(values.to_pylist()).reshape(shape)
    if pa.types.is_map(values.type):
        return Unreadable("a list of maps")
    return np.array(values.to_pylist(), dtype=None if len(values) else np.float64).reshape(shape)


def _filled(array: pa.Array) -> NDArray[Any]:
    """A tensor array with zeros where it has nulls, which `to_numpy_ndarray` refuses."""
    size = array.type.storage_type.list_size
    flat = np.zeros((len(array), size), array.type.value_type.to_pandas_dtype())
    flat[array.is_valid().to_numpy(zero_copy_only=False)] = array.storage.flatten().to_numpy().reshape(-1, size)
    return flat.reshape(len(array), *array.type.shape)


def _is_file(kind: pa.DataType) -> bool:
    """Whether it is how the datasets library keeps an image or a sound: its bytes, its path, or both."""
    return bool(pa.types.is_struct(kind)) and {field.name for field in kind} == {"bytes", "path"}
