"""What a file says of its values, checked before anything relies on it."""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow as pa

from mmreg.data.hashing import is_text
from mmreg.errors import TableError
from mmreg.messages import one_line

_NOT_UTF8 = re.compile(r"Invalid UTF8 sequence at string index (\d+)")


def validated(table: pa.Table, path: Path) -> pa.Table:
    """The same table, of which everything is checked that later steps rely on.

    Raises:
        TableError: says which column is wrong, and which row if it is a text.
    """
    try:
        for field in table.schema:
            _check_names(field)
    except UnicodeDecodeError:
        raise TableError(
            f"{path}: the name of a column, or of a field in one, is not UTF-8; write the file anew"
        ) from None
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


def _check_names(field: pa.Field) -> None:
    """Read the names of a field and of those in it."""
    _ = field.name
    for at in range(field.type.num_fields):
        _check_names(field.type.field(at))
