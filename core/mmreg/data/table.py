"""A table: named columns of values, wherever they come from, that are never all turned into Python objects."""

from __future__ import annotations

import copy
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mmreg.data.dialect import TableFile
from mmreg.data.files import read_file
from mmreg.data.hashing import field_names, hash_array, is_text
from mmreg.data.located import Elsewhere, Unreadable
from mmreg.data.memory import is_tabular, read_memory
from mmreg.data.plain import plain_column, why_unreadable
from mmreg.errors import TableError
from mmreg.messages import listed, near, one_line

SEPARATOR_HINT = "is another character its separator than was found? Name it by --separator"
"""What to do about a table with a single column."""
CHUNK = 1024
"""Rows that are turned into Python objects at a time."""
HASHED = 256
"""Rows that are hashed at a time, whatever the chunks: the same values give the same hash."""


class Table:
    """Named columns of equal length, held by Arrow.

    A column of things that Arrow cannot hold (images, arrays of several axes) keeps them in `objects`; the Arrow
    column then holds their positions in that list.

    Args:
        data: the columns; encodings that only save space (dictionaries, views) are undone.
        name: what messages call the table, such as its file's name.
        folder: what paths in its cells are relative to; None for the current directory.
        objects: for each column of Python objects, the objects.
        elsewhere: what its cells may name that is not on this machine; nothing if it is not given.

    Attributes:
        arrow: the columns.
        objects: for each column of Python objects, the objects.
        unreadable: for each column whose values cannot become Python's, why; in `arrow` it is empty.
        row_numbers: (N,) int64, each row's number in what was read, from 0; `select` keeps them.

    Raises:
        TableError: two columns have the same name.
    """

    def __init__(
        self,
        data: pa.Table,
        *,
        name: str = "<table>",
        folder: Path | None = None,
        objects: Mapping[str, Sequence[Any]] | None = None,
        elsewhere: Elsewhere | None = None,
    ) -> None:
        twice = sorted(column for column, count in Counter(data.column_names).items() if count > 1)
        if twice:
            raise TableError(f"{name}: more than one column is called {listed(map(repr, twice))}; rename them")
        self.unreadable: dict[str, str] = {}
        self.arrow: pa.Table = self._plain(data)
        self.objects: dict[str, Sequence[Any]] = dict(objects or {})
        self.row_numbers: NDArray[np.int64] = np.arange(len(data), dtype=np.int64)
        # Joined tables keep, for each row, which of them it came from.
        self._sources: list[tuple[str, Path | None, Elsewhere]] = [(name, folder, elsewhere or Elsewhere())]
        self._source: NDArray[np.int32] = np.zeros(len(data), np.int32)

    def __len__(self) -> int:
        return int(self.arrow.num_rows)

    def _plain(self, data: pa.Table) -> pa.Table:
        """The same values as plain columns, without metadata; notes which columns are unreadable."""
        columns = []
        for name, column in zip(data.column_names, data.columns, strict=True):
            try:
                column = plain_column(column)
                reason = why_unreadable(column)
            except pa.ArrowException as error:
                reason = f"{column.type}: {one_line(error)}"
            if reason:
                self.unreadable[name] = reason
            columns.append(pa.chunked_array([pa.nulls(len(data))]) if reason else column)
        return pa.Table.from_arrays(columns, names=data.column_names) if columns else data

    @property
    def name(self) -> str:
        """What messages call it: the file's name, "<table>", or the names of the tables that were joined."""
        return ", ".join(dict.fromkeys(name for name, *_ in self._sources))

    @property
    def folder(self) -> Path | None:
        """What relative paths in its cells are relative to; None for the current directory."""
        return self._sources[0][1]

    @property
    def columns(self) -> list[str]:
        """The columns' names, in order."""
        return list(self.arrow.column_names)

    def column(self, name: str) -> pa.ChunkedArray:
        """One column; of a column of Python objects, their positions in `objects`.

        Raises:
            TableError: there is no such column, or its values are of a kind that cannot be read.
        """
        if name in self.unreadable:
            raise TableError(f"{self.name}: column {name!r} cannot be read ({self.unreadable[name]})")
        index = self.arrow.schema.get_field_index(name)
        if index < 0:
            only = self.columns[0] if len(self.columns) == 1 else ""
            hint = f" ({SEPARATOR_HINT})" if set(only) & set(";\t|,") else ""
            raise TableError(
                f"{self.name} has no column {name!r}{near(name, self.columns)}; its columns are "
                f"{listed(map(repr, self.columns), 20)}{hint}"
            )
        return self.arrow.column(index)

    def select(self, rows: NDArray[Any] | Sequence[int]) -> Table:
        """The rows of a boolean mask (N,), or those with these indices, in that order."""
        index = np.asarray(rows)
        index = np.flatnonzero(index) if index.dtype == bool else index.astype(np.int64)
        result = copy.copy(self)
        result.arrow = self.arrow.take(pa.array(index))
        result.row_numbers = self.row_numbers[index]
        result._source = self._source[index]
        return result

    def with_values(
        self, column: str, values: pa.ChunkedArray, counts: NDArray[np.int64], objects: Sequence[Any] | None = None
    ) -> Table:
        """A table of one column that has, in the place of each row, so many rows (N,); these are called as it is.

        Args:
            column: its name.
            values: what the rows hold, one row's after the other's.
            counts: how many there are of each.
            objects: if `values` are positions in it, the Python objects.
        """
        result = copy.copy(self)
        result.arrow = pa.table({column: values})
        result.objects = {} if objects is None else {column: objects}
        result.row_numbers = np.repeat(self.row_numbers, counts)
        result._source = np.repeat(self._source, counts)
        return result

    def with_empty(self, columns: Iterable[str]) -> Table:
        """The same rows with empty columns in the place of those of these that are not there."""
        result = copy.copy(self)
        there = set(self.columns)
        missing = [column for column in dict.fromkeys(columns) if column not in there]
        if missing:
            empty = pa.chunked_array([pa.nulls(len(self), pa.string())])
            arrays = [*self.arrow.columns, *[empty] * len(missing)]
            result.arrow = pa.Table.from_arrays(arrays, names=[*self.columns, *missing])
        return result

    def with_missing(self, texts: Sequence[str]) -> Table:
        """The same rows with null in the place of cells that hold one of these texts."""
        if not texts:
            return self
        columns = []
        for column in self.arrow.columns:
            if is_text(column.type):
                marked = pc.is_in(column, pa.array(texts, column.type))
                column = pc.if_else(marked, pa.scalar(None, column.type), column)
            columns.append(column)
        result = copy.copy(self)
        result.arrow = pa.Table.from_arrays(columns, names=self.columns)
        return result

    def where(self, row: int | np.integer[Any]) -> str:
        """What messages call a row: "manifest.csv, row 17".

        Rows count from 1 as people count them: the header does not count, nor do empty lines.
        """
        return f"{self._sources[self._source[row]][0]}, row {self.row_numbers[row] + 1}"

    def folders(self, rows: NDArray[Any] | slice) -> list[Path]:
        """For each of these rows, what a relative path in it is relative to."""
        folders = [folder or Path() for _, folder, _ in self._sources]
        return [folders[source] for source in self._source[rows]]

    def absolute(self) -> Table:
        """The same rows, for a process that works in another folder: what paths are relative to is told in full."""
        result = copy.copy(self)
        result._sources = [(name, (folder or Path()).absolute(), place) for name, folder, place in self._sources]
        return result

    def folder_numbers(self) -> NDArray[np.int32]:
        """For each row (N,), a number that tells apart the folders that its relative paths are relative to."""
        numbers: dict[tuple[Path | None, Elsewhere], int] = {}
        of_source = [numbers.setdefault((folder, elsewhere), len(numbers)) for _, folder, elsewhere in self._sources]
        return np.asarray(of_source, np.int32)[self._source]

    def located(self, rows: NDArray[np.int64], texts: Sequence[str | None]) -> list[str | Unreadable | None]:
        """The files that texts in some rows name, on this machine once they are fetched; None where a text is empty."""
        of_row = self._source[rows]
        located: list[str | Unreadable | None] = [None] * len(texts)
        for number in np.unique(of_row).tolist():
            _, folder, elsewhere = self._sources[number]
            places = np.flatnonzero(of_row == number).tolist()
            files = elsewhere.located([texts[place] for place in places], folder or Path())
            for place, file in zip(places, files, strict=True):
                located[place] = file
        return located

    def with_elsewhere(self, elsewhere: Elsewhere) -> Table:
        """The same rows, whose cells may name what is elsewhere; those of a table that knows of its own keep that."""
        result = copy.copy(self)
        result._sources = [
            (name, folder, own if own.base or own.allowed else elsewhere) for name, folder, own in self._sources
        ]
        return result

    def pieces(
        self, column: str, rows: NDArray[np.int64] | None = None, size: int = CHUNK
    ) -> Iterator[tuple[NDArray[np.int64], pa.Array]]:
        """A column's values in rows 0, 1, 2, ... (or in these), a few at a time: their rows and an Arrow array."""
        chunks = self.column(column).chunks
        starts = np.concatenate([[0], np.cumsum([len(chunk) for chunk in chunks])]).astype(np.int64)
        if rows is None:
            for start, chunk in zip(starts.tolist(), chunks, strict=False):
                for offset in range(0, len(chunk), size):
                    piece = chunk.slice(offset, size)
                    yield np.arange(start + offset, start + offset + len(piece)), piece
            return
        for offset in range(0, len(rows), size):
            wanted = rows[offset : offset + size]
            owners = np.searchsorted(starts, wanted, side="right") - 1
            # One run of rows after the other that lie in the same chunk: `take` across chunks would join them all.
            for run in np.split(np.arange(len(wanted)), np.flatnonzero(np.diff(owners)) + 1):
                if len(run):
                    owner = owners[run[0]]
                    yield wanted[run], chunks[owner].take(pa.array(wanted[run] - starts[owner]))

    def iter_values(self, column: str, rows: NDArray[np.int64] | None = None) -> Iterator[Any]:
        """A column's values as Python objects, one after the other; null is None."""
        objects = self.objects.get(column)
        for _, piece in self.pieces(column, rows):
            values = piece.to_pylist()
            yield from values if objects is None else (None if at is None else objects[at] for at in values)

    def fingerprint(self) -> str:
        """A hash of the columns' names, types and values, in hexadecimal digits."""
        digest = hashlib.blake2b(digest_size=16)
        for column in self.columns:
            digest.update(f"\0{column}\0".encode())
            self.hash_column(column, digest.update)
        return digest.hexdigest()

    def hash_column(self, column: str, update: Any) -> None:
        """Feed a column's values to a hash's `update`, the same whatever chunks the column lies in."""
        if column in self.objects:
            for value in self.iter_values(column):
                array = None if value is None else np.asarray(value)
                update(b"\0" if array is None else f"{array.dtype}{array.shape}".encode() + array.tobytes())
            return
        data = self.arrow.column(self.arrow.schema.get_field_index(column))
        for offset in range(0, len(data), HASHED):
            piece = data.slice(offset, HASHED)
            hash_array(piece.chunk(0) if piece.num_chunks == 1 else piece.combine_chunks(), update)
        if names := field_names(data.type):  # a dict has them, and the column's values alone have not
            update(json.dumps(names).encode())


def read_table(source: Any, folder: str | Path | None = None, *, missing: Sequence[str] = ()) -> Table:
    """A table from a file or from what Python holds.

    Args:
        source: the path of a .csv, .tsv, .txt (.tab), .jsonl (.ndjson), .parquet, or .arrow (.feather) file, or a
            `TableFile`; a `Table`; anything with the Arrow PyCapsule interface (pyarrow, pandas, polars, duckdb,
            datasets); a list of dicts; or a dict of lists.
        folder: what relative paths in its cells are relative to: the file's folder, or the current directory, if
            not given.
        missing: texts that mark an absent cell; where a column of delimited text holds numbers else, it is numeric.

    Raises:
        TableError: the table is missing, unreadable, broken or empty; the message says where and what to do.
    """
    if isinstance(source, Table):
        return source.with_missing(missing)
    if isinstance(source, str | Path):
        source = TableFile(source)
    if isinstance(source, TableFile):
        path = Path(source.path)
        data = read_file(source, missing)
        table = Table(data, name=path.name, folder=Path(folder) if folder is not None else path.parent)
        pa.default_memory_pool().release_unused()  # what was needed to parse it is several times as much
    elif is_tabular(source):
        data, objects = read_memory(source)
        table = Table(data, folder=None if folder is None else Path(folder), objects=objects)
    else:
        raise TableError(
            f"a table is a path, a data frame or dataset (Arrow PyCapsule interface), a list of dicts or a dict of "
            f"lists; found {type(source).__name__}"
        )
    if not len(table) and not table.columns:
        raise TableError(f"{table.name} has no rows and no columns: give one row at least, as a dict by column")
    if not len(table):
        raise TableError(f"{table.name} has no rows: there is nothing to read but the names of its columns")
    if not table.columns:
        raise TableError(f"{table.name} has no columns")
    return table.with_missing(missing)


def concat_tables(tables: Sequence[Table]) -> Table:
    """Several tables as one, their rows one after the other; each row keeps its table's name, number and folder.

    A column that some of them lack is null there.

    Raises:
        TableError: a column holds things that do not go together, such as lists and texts.
    """
    shifted = []
    objects: dict[str, list[Any]] = {}
    for table in tables:
        arrow = table.arrow
        for column, held in table.objects.items():
            at = arrow.column_names.index(column)
            positions = pc.add(arrow.column(column), len(objects.setdefault(column, [])))
            arrow = arrow.set_column(at, column, positions)
            objects[column].extend(held)
        shifted.append(arrow)
    for column in objects:
        for table in tables:
            if column in table.columns and column not in table.objects:
                raise TableError(f"column {column!r} holds Python objects in one table, but not in {table.name}")
    joined = Table(_concat(shifted, [table.name for table in tables]), objects=objects)
    joined.unreadable = {column: reason for table in tables for column, reason in table.unreadable.items()}
    joined.row_numbers = np.concatenate([table.row_numbers for table in tables])
    joined._sources = [source for table in tables for source in table._sources]
    starts = np.cumsum([0] + [len(table._sources) for table in tables])
    parts = [table._source + start for table, start in zip(tables, starts.tolist(), strict=False)]
    joined._source = np.concatenate(parts).astype(np.int32)
    return joined


def _concat(tables: list[pa.Table], names: list[str]) -> pa.Table:
    tables_with: dict[str, list[int]] = {}
    for at, table in enumerate(tables):
        for column in table.column_names:
            tables_with.setdefault(column, []).append(at)
    for column, having in tables_with.items():
        kinds = [tables[at].field(column).type for at in having]
        try:
            pa.unify_schemas([pa.schema({column: kind}) for kind in kinds], promote_options="permissive")
        except pa.ArrowException:
            if not all(is_text(kind) or pa.types.is_primitive(kind) for kind in kinds):
                found = listed(f"{kind} in {names[at]}" for at, kind in zip(having, kinds, strict=True))
                raise TableError(f"column {column!r} holds {found}; make it the same in all tables") from None
            for at in having:  # such as the ids 12 in one file and "007" in another
                place = tables[at].column_names.index(column)
                text = tables[at].column(column).cast(pa.large_string())
                tables[at] = tables[at].set_column(place, column, text)
    return pa.concat_tables(tables, promote_options="permissive")
