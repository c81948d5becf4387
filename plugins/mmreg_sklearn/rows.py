"""What scikit-learn calls X, as a table that a recipe reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from mmreg.errors import TableError


def columns_of(count: int) -> list[str]:
    """The names of an array's columns."""
    return [f"x{number}" for number in range(count)]


def as_table(data: Any, further: Mapping[str, Sequence[Any]]) -> Any:
    """A table with further columns.

    Args:
        data: (R, D) an array, whose columns are then x0, x1 and so on; a data frame; a list of dicts.
        further: values by column, one a row.

    Raises:
        TableError: it is none of these, or has such a column already.
    """
    if isinstance(data, np.ndarray):
        columns = dict(zip(columns_of(data.shape[1]), map(pa.array, np.ascontiguousarray(data.T)), strict=True))
        return pa.table({**columns, **further})
    if isinstance(data, list | tuple) and all(isinstance(row, Mapping) for row in data):
        _check(further, [name for row in data for name in row])
        rows = [dict(zip(further, values, strict=True)) for values in zip(*further.values(), strict=True)]
        return [{**row, **own} for row, own in zip(data, rows or [{}] * len(data), strict=True)]
    if hasattr(data, "__arrow_c_stream__"):
        _check(further, list(data.columns))
        try:
            table = pa.table(data)
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError):  # a column of arrays, say
            return as_table(data.to_dict("records"), further)
        for name, values in further.items():
            table = table.append_column(name, pa.array(values))
        return table
    raise TableError(f"X must be an array, a data frame or a list of dicts, found {type(data).__name__}")


def _check(further: Mapping[str, Any], columns: Sequence[str]) -> None:
    taken = [name for name in further if name in columns]
    if taken:
        raise TableError(f"X has a column {taken[0]!r} already, which y or the weights were to be; rename or drop it")
