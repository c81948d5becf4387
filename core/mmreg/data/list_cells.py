"""Cells that hold any number of values each: taken apart into one value a row, and put together again.

Axes: N rows, F values in all of their cells, n of these rows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mmreg.data.hashing import is_any_list, is_text
from mmreg.data.prepared import BadCell, Prepared
from mmreg.data.segments import ranges
from mmreg.data.table import Table
from mmreg.errors import TableError
from mmreg.messages import shortened


@dataclass(frozen=True)
class ListCells:
    """A column whose cells hold any number of values.

    Attributes:
        column: its name.
        values: a table of this column alone with F rows, a value in each; each is called as the row that it came from.
        bounds: (N + 1,) int64, where each row's values begin among these, and the last one's end.
        causes: for some of the F, why nothing can be made of them, whatever reads the column.
    """

    column: str
    values: Table
    bounds: NDArray[np.int64]
    causes: Mapping[int, str] = field(default_factory=dict)

    @property
    def owners(self) -> NDArray[np.int64]:
        """(F,) the row that each value came from."""
        return np.repeat(np.arange(len(self.bounds) - 1), np.diff(self.bounds))

    def places(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where the values of some rows (n,) are among the F."""
        return ranges(self.bounds, rows)

    def grouped(self, prepared: Prepared) -> Prepared:
        """The prepared values of these F, as the N rows have them.

        Absent ones are left out, and a row is absent that has no other. One that cannot be loaded makes its whole cell
        a bad one, of which the first is told.
        """
        owners, index = self.owners, prepared.index
        bad: dict[int, tuple[int, str, str]] = {}
        told = {cell.row: (cell.value, cell.cause) for cell in prepared.bad}
        for place, cause in self.causes.items():
            told[place] = ("", cause)
        for place in sorted(told):
            bad.setdefault(int(owners[place]), (place, *told[place]))
        cells = []
        for row, (place, value, cause) in bad.items():
            first, end = self.bounds[row], self.bounds[row + 1]
            which = f"value {place - first + 1} of {end - first}{value and f', {value}'}"
            cells.append(BadCell(row, self.column, which, cause, self.values.where(place)))
        kept = (index >= 0) & ~np.isin(owners, list(bad))
        counts = np.bincount(owners[kept], minlength=len(self.bounds) - 1)
        return prepared.grouped(index[kept], _bounds(counts), cells)


def list_cells(
    table: Table, column: str, separator: str | None = None, missing: Sequence[str] = (), *, strict: bool = True
) -> ListCells:
    """Take a column's cells apart.

    A list holds its elements, and so does a text that is one in JSON. With a separator another text holds its parts,
    without the space around them. Anything else is a single value.

    Args:
        table: N rows.
        column: of it.
        separator: what stands between the values of a text.
        missing: texts that mark an absent value.
        strict: whether to refuse a separator where there are no texts.

    Raises:
        TableError: there is no such column; its lists hold numbers, or lists of other things than numbers; or a
            separator is given for cells that are no texts.
    """
    cells = table.column(column)
    kind = cells.type
    is_texts = (is_text(kind) or pa.types.is_null(kind)) and column not in table.objects
    if separator is not None and not is_texts and strict:
        found = "Python objects" if column in table.objects else shortened(str(kind))
        raise TableError(
            f"{table.name}: column {column!r} holds {found}, so there are no texts to part by separator: "
            f"{separator!r}; leave separator out"
        )
    causes: dict[int, str] = {}
    objects = None
    if column in table.objects:
        objects, counts = _objects(table, column, causes)
        numbers = [None if each is None else at for at, each in enumerate(objects)]
        values = pa.chunked_array([pa.array(numbers, pa.int64())])
    elif is_any_list(kind):
        _check_elements(table, column, kind)
        values = pa.chunked_array([chunk.flatten() for chunk in cells.chunks], kind.value_type)
        counts = _counts(cells)
    elif is_text(kind) and _may_be_json(cells):
        texts, counts = _from_json(cells, causes, separator)
        values = pa.chunked_array([pa.array(texts, pa.large_string())])
    elif separator is not None and is_text(kind):
        parts = pc.split_pattern(cells, separator)
        trimmed = [pc.utf8_trim_whitespace(chunk.flatten()) for chunk in parts.chunks]
        values, counts = pa.chunked_array(trimmed, kind), _counts(parts)
    else:
        values, counts = cells, np.ones(len(table), np.int64)
    flat = table.with_values(column, values, counts, objects).with_missing(missing)
    return ListCells(column, flat, _bounds(counts), causes)


def _bounds(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def _counts(cells: pa.ChunkedArray) -> NDArray[np.int64]:
    """How many elements each list has (N,); 0 for null."""
    lengths = [pc.fill_null(pc.list_value_length(chunk).cast(pa.int64()), 0) for chunk in cells.chunks]
    return np.concatenate([np.zeros(0, np.int64), *(each.to_numpy(zero_copy_only=False) for each in lengths)])


def _check_elements(table: Table, column: str, kind: pa.DataType) -> None:
    """Refuse lists of what no cell of one value holds."""
    inner = kind.value_type
    where = f"{table.name}: column {column!r} holds {shortened(str(kind))}"
    if is_any_list(inner):
        leaf = inner
        while is_any_list(leaf):
            leaf = leaf.value_type
        if not pa.types.is_primitive(leaf) and not pa.types.is_null(leaf):
            raise TableError(f"{where}: lists within lists, where many reads one list a cell; flatten the inner ones")
    elif pa.types.is_primitive(inner) or pa.types.is_decimal(inner):
        raise TableError(
            f"{where}, whose numbers are together one value: leave many out, or give lists of paths, texts, bytes or "
            "lists"
        )


def _objects(table: Table, column: str, causes: dict[int, str]) -> tuple[list[Any], NDArray[np.int64]]:
    """The Python objects of all cells, one after the other, and how many each cell has."""
    found: list[Any] = []
    counts = np.zeros(len(table), np.int64)
    held = table.objects[column]
    for row, at in enumerate(table.column(column).to_pylist()):
        cell = None if at is None else held[at]
        several = list(cell) if isinstance(cell, list | tuple) else [] if cell is None else [cell]
        for each in several:
            if isinstance(each, str | bytes | int | float | list | tuple | dict):
                causes[len(found)] = f"it is a {type(each).__name__} in a list of arrays or images"
                each = None
            found.append(each)
        counts[row] = len(several)
    return found, counts


def _may_be_json(cells: pa.ChunkedArray) -> bool:
    """Whether any text begins as a list in JSON does."""
    return bool(pc.any(pc.starts_with(pc.utf8_ltrim_whitespace(cells), "[")).as_py())


def json_list(text: str) -> list[Any] | None:
    """The elements of a text that is a list in JSON; None if it is none."""
    if not text.lstrip().startswith("["):
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, list) else None


def _from_json(
    cells: pa.ChunkedArray, causes: dict[int, str], separator: str | None
) -> tuple[list[str | None], NDArray[np.int64]]:
    """The texts of all cells, one after the other, and how many each has; lists of numbers stay as JSON."""
    found: list[str | None] = []
    counts = np.zeros(len(cells), np.int64)
    for row, text in enumerate(cells.to_pylist()):
        elements = json_list(text) if text else None
        if separator is not None and elements and all(isinstance(each, int | float) for each in elements):
            elements = None  # the numbers of a single vector
        if elements is None and separator is not None:
            elements = [] if text is None else [part.strip() for part in text.split(separator)]
        elements = [text] if elements is None else elements
        for each in elements:
            if isinstance(each, list) and _is_numeric(each):
                each = json.dumps(each)
            elif each is not None and not isinstance(each, str):
                kind = "a list within the list" if isinstance(each, list) else _kind(each)
                causes[len(found)] = f"{shortened(_written(each))} is {kind}, where a text is needed"
                each = None
            found.append(each)
        counts[row] = len(elements)
    return found, counts


def _written(value: Any) -> str:
    """A value as JSON writes it; of one that is nested deeper than that can be written, how it begins."""
    try:
        return json.dumps(value)
    except RecursionError:
        return "[[[[..."


def _is_numeric(value: list[Any]) -> bool:
    """Whether there is nothing in a list but numbers, and lists and lists of lists of them."""
    for _ in range(3):
        if all(isinstance(each, int | float) for each in value):
            return True
        if not all(isinstance(each, list) for each in value):
            return False
        value = [part for each in value for part in each]
    return False


def _kind(value: Any) -> str:
    """What JSON calls a value."""
    return "a truth value" if isinstance(value, bool) else "a number" if isinstance(value, int | float) else "a mapping"
