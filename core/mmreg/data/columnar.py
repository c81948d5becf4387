"""Parquet and Arrow files: what they claim is checked before it is relied on.

They are read into memory, not mapped: a file that becomes shorter while it is mapped ends the process.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from mmreg.data.parquet_footer import read_footer
from mmreg.data.plain import leaves
from mmreg.data.room import ROW, check_room, free_memory
from mmreg.data.validation import validated


def read_parquet(path: Path) -> pa.Table:
    """The table in a Parquet file.

    Raises:
        TableError: it would not fit into memory, or holds texts that are not UTF-8.
        pa.ArrowException, ValueError: it is damaged.
    """
    with pa.parquet.ParquetFile(path) as file:
        _ = file.schema_arrow  # a file of another kind, or damaged, is told by Arrow
    rows, chunks = read_footer(path)
    needed = rows * ROW + sum(chunk.size for chunk in chunks)
    check_room(path, needed)
    if needed + sum(chunk.repeated for chunk in chunks) > free_memory():
        # A dictionary holds a value once that may stand in every row.
        check_room(path, needed + _written_out(path, list({chunk.path: None for chunk in chunks if chunk.repeated})))
    with pa.parquet.ParquetFile(path) as file:
        return validated(file.read(), path)


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
