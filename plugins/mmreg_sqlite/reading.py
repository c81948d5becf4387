"""Reads `sqlite://PATH#TABLE`: a table, a view or a query of an SQLite database, never writing to it."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa

from mmreg.errors import TableError
from mmreg.files import irregular
from mmreg.messages import near

CHUNK = 10_000
"""Rows that are held as Python objects at a time."""
REMEDIES: Mapping[str, str] = {
    "is locked": "; another program is writing to it: try again when that is done, or read a copy",
    "malformed": "; it is damaged: restore it, or save what is left with SQLite's own command .recover",
}
"""What to do about errors of SQLite, by words in them."""
QUERY = re.compile(r"(select|with)\s", re.IGNORECASE)


def read(name: str) -> pa.Table:
    """The rows that a name means.

    Args:
        name: `sqlite://PATH#TABLE`, where PATH is relative to the working directory, or absolute as in
            `sqlite:///data/products.db`, and holds no `#`. TABLE is the name of a table or view, in any case, or a
            query that begins with SELECT or WITH; it may be left out where the database has one table.

    Raises:
        TableError: there is no such file or table, the file is no database, the query is wrong, or a column mixes
            types that do not go together.
    """
    place, _, wanted = name.partition("://")[2].partition("#")
    path = Path(place).expanduser()
    what = irregular(path)
    if what or not path.is_file():
        there = f" (it is {what})" if what else ""
        raise TableError(f"there is no database {str(path)!r} in {Path.cwd()}{there}; write sqlite://PATH#TABLE")
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            query = wanted if QUERY.match(wanted) else f"SELECT * FROM {_quoted(_table(connection, path, wanted))}"
            return _rows(connection.execute(query))
    except sqlite3.Error as error:
        remedy = next((each for words, each in REMEDIES.items() if words in str(error)), "")
        raise TableError(f"the database {str(path)!r} cannot be read: {error}{remedy}") from error


def _table(connection: sqlite3.Connection, path: Path, wanted: str) -> str:
    """The table or view that is meant, as the database spells it."""
    listed = "SELECT name FROM sqlite_master WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
    tables: list[str] = sorted(name for (name,) in connection.execute(listed))
    matching = [name for name in tables if name.lower() == wanted.lower()]
    if not wanted and len(tables) == 1:
        return tables[0]
    if matching:
        return matching[0]
    there = f"its tables are {', '.join(tables)}" if tables else "it has no tables"
    if not wanted:
        raise TableError(f"which table of {str(path)!r}? Name it as in sqlite://PATH#TABLE; {there}")
    raise TableError(f"the database {str(path)!r} has no table {wanted!r}{near(wanted, tables)}; {there}")


def _quoted(table: str) -> str:
    return '"' + table.replace('"', '""') + '"'


def _rows(cursor: sqlite3.Cursor) -> pa.Table:
    """All rows; the type of a column is that of its values, as SQLite's columns have none of their own."""
    names = [column[0] for column in cursor.description or ()]
    chunks: list[list[pa.Array]] = []
    while rows := cursor.fetchmany(CHUNK):
        chunks.append([_array(name, values) for name, values in zip(names, zip(*rows, strict=True), strict=True)])
    columns = [_joined(name, [chunk[at] for chunk in chunks]) for at, name in enumerate(names)]
    return pa.table(columns, names=names)


def _array(name: str, values: tuple[Any, ...]) -> pa.Array:
    if {type(value) for value in values} >= {int, float}:  # which Arrow takes only where no integer is large
        values = tuple(float(value) if isinstance(value, int) else value for value in values)
    try:
        return pa.array(values)
    except (pa.ArrowException, TypeError, OverflowError) as error:
        kinds = ", ".join(sorted({type(value).__name__ for value in values if value is not None}))
        raise TableError(f"column {name!r} mixes {kinds}; cast it in a query, or mend the table") from error


def _joined(name: str, chunks: list[pa.Array]) -> pa.ChunkedArray:
    """One column's chunks with one type: integers become floats where some are, and what is empty fits all."""
    parts = [pa.table([chunk], names=["values"]) for chunk in chunks]
    try:
        joined = pa.concat_tables(parts, promote_options="permissive") if parts else pa.table({"values": pa.nulls(0)})
    except pa.ArrowException as error:
        kinds = ", ".join(sorted({str(chunk.type) for chunk in chunks}))
        raise TableError(f"column {name!r} mixes {kinds}; cast it in a query, or mend the table") from error
    return joined.column("values")
