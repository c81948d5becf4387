"""Parquet and Arrow files: what they claim is checked before it is relied on.

They are read into memory, not mapped: a file that becomes shorter while it is mapped ends the process.
"""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from mmreg.data.hashing import is_text
from mmreg.data.plain import leaves
from mmreg.data.room import ROW, check_room, free_memory
from mmreg.errors import TableError
from mmreg.messages import one_line

_NOT_UTF8 = re.compile(r"Invalid UTF8 sequence at string index (\d+)")
_WIDTHS = {"BOOLEAN": 1, "INT32": 4, "INT64": 8, "INT96": 12, "FLOAT": 4, "DOUBLE": 8, "BYTE_ARRAY": 4}
_DICTIONARIES = {"RLE_DICTIONARY", "PLAIN_DICTIONARY"}


def read_parquet(path: Path) -> pa.Table:
    """The table in a Parquet file.

    Raises:
        TableError: it would not fit into memory, or holds texts that are not UTF-8.
        pa.ArrowException: it is damaged.
    """
    with pa.parquet.ParquetFile(path) as file:
        least, most, in_dictionaries = _claimed(file.metadata)
    check_room(path, least)
    if most > free_memory():
        check_room(path, least + _written_out(path, in_dictionaries))
    with pa.parquet.ParquetFile(path) as file:
        return validated(file.read(), path)


def _claimed(footer: pa.parquet.FileMetaData) -> tuple[int, int, list[str]]:
    """The bytes that a file's values take at least and at most, and the columns that make the difference.

    A dictionary holds a value once that may stand in every row.
    """
    least = most = footer.num_rows * ROW
    in_dictionaries: dict[str, None] = {}
    for number in range(footer.num_row_groups):
        group = footer.row_group(number)
        for at in range(group.num_columns):
            chunk = group.column(at)
            kind = chunk.physical_type
            width = _WIDTHS.get(kind) or footer.schema.column(at).length
            size = max(chunk.total_uncompressed_size, chunk.num_values * width)
            least += size
            most += size
            if kind == "BYTE_ARRAY" and not _DICTIONARIES.isdisjoint(chunk.encodings):
                most += chunk.num_values * chunk.total_uncompressed_size
                in_dictionaries[chunk.path_in_schema] = None
    return least, most, list(in_dictionaries)


def _written_out(path: Path, columns: list[str]) -> int:
    """The bytes of all texts and bytes of some columns, counted without writing out any that a dictionary holds."""
    with pa.parquet.ParquetFile(path, read_dictionary=columns) as file:
        table = file.read(columns=columns)
    size = 0
    for chunk in (chunk for column in table.columns for chunk in column.chunks):
        for leaf in leaves(chunk):
            if pa.types.is_dictionary(leaf.type):
                lengths = pc.binary_length(leaf.dictionary).cast(pa.int64())
                size += pc.sum(lengths.take(leaf.indices), min_count=0).as_py()
    return size


def read_ipc(path: Path) -> pa.Table:
    """The table in an Arrow file or stream.

    Raises:
        TableError: what it says of its values does not hold, or they are texts that are not UTF-8.
        pa.ArrowException: it is damaged.
    """
    with pa.OSFile(str(path)) as source:
        try:
            table = pa.ipc.open_file(source).read_all()
        except pa.ArrowInvalid:
            source.seek(0)
            table = pa.ipc.open_stream(source).read_all()
    check_room(path, table.num_rows * ROW)  # a column of nulls may be of any length
    return validated(table, path)


def validated(table: pa.Table, path: Path) -> pa.Table:
    """The same table, of which everything is checked that later steps rely on.

    Raises:
        TableError: says which column is wrong, and which row if it is a text.
    """
    for name, column in zip(table.column_names, table.columns, strict=True):
        row = 0
        for chunk in column.chunks:
            try:
                chunk.validate(full=True)
            except pa.ArrowInvalid as error:
                at = _NOT_UTF8.search(str(error))
                if at is not None and is_text(column.type):
                    raise TableError(
                        f"{path}, row {row + int(at[1]) + 1}, column {name!r}: the text is not UTF-8; write the "
                        "file anew, or make it a column of bytes"
                    ) from None
                raise TableError(f"{path}, column {name!r}: the file is damaged ({one_line(error)})") from None
            row += len(chunk)
    return table
