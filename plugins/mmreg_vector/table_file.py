"""A series from a CSV or Parquet file: its columns of numbers, and its times.

Axes: T time, C channels.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mmreg.errors import ValueLoadError
from mmreg.files import irregular
from mmreg.messages import listed, near, one_line

MAX_BYTES = 1 << 30
"""Of a file; beyond that it is no series of a row."""
MAX_VALUES = 1 << 28
"""Numbers of a Parquet file, which may hold many in few bytes."""
ENDINGS = frozenset({".csv", ".parquet"})


def read_table_file(
    path: Path, channels: Sequence[str] | None, time: str | None, alone: bool = False
) -> tuple[NDArray[np.float32], NDArray[np.float64] | None, tuple[str, ...]]:
    """The channels (T, C) with NaN where a cell is empty, the times (T,) in seconds, and the channels' names.

    Args:
        path: of a .csv or .parquet file.
        channels: the columns to take; None for all columns of numbers but the times.
        alone: whether there may be no other columns of numbers.
        time: the column of times; None where there are none.

    Raises:
        ValueLoadError: the file cannot be read, or lacks a column.
    """
    what = irregular(path)
    if what:
        raise ValueLoadError(f"{path} is {what}, where a file is needed")
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ValueLoadError(f"{path} has {path.stat().st_size:,} bytes, more than a series' {MAX_BYTES:,}")
        if path.suffix.lower() == ".parquet":
            facts = pq.read_metadata(path)
            if facts.num_rows * facts.num_columns > MAX_VALUES:
                raise ValueLoadError(f"{path} holds {facts.num_rows:,} rows, too many for a series")
            table = pq.read_table(path)
        else:
            table = pacsv.read_csv(io.BytesIO(path.read_bytes()))
    except FileNotFoundError as error:
        raise ValueLoadError(f"{path} cannot be read: there is no such file") from error
    except (OSError, pa.ArrowException) as error:
        raise ValueLoadError(f"{path} cannot be read: {one_line(error)}") from error
    twice = [name for name in table.column_names if table.column_names.count(name) > 1]
    if twice:
        raise ValueLoadError(f"{path} has two columns {twice[0]!r}")
    for name in (*(channels or ()), *([time] if time else [])):
        if name not in table.column_names:
            there = f"{near(name, table.column_names)}; it has {listed(table.column_names, 20)}"
            raise ValueLoadError(f"{path} has no column {name!r}{there}")
    every = [name for name in table.column_names if name != time and _is_number(table[name].type)]
    names = tuple(channels or every)
    if not names:
        raise ValueLoadError(f"{path} has no column of numbers; it has {listed(table.column_names, 20)}")
    if others := [name for name in every if name not in names] if alone else []:
        told = (
            f"{path} has {listed(others, 5)} besides {listed(names, 5)}, which the first file of the training rows has"
        )
        raise ValueLoadError(f"{told} alone; name those to take by channels")
    values = np.stack([_numbers(path, name, table[name]) for name in names], 1)
    return values.astype(np.float32), None if time is None else _seconds(path, time, table[time]), names


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_null(kind))


def _numbers(path: Path, name: str, column: pa.ChunkedArray) -> NDArray[np.float64]:
    """A column's numbers (T,), NaN where it is empty."""
    if not (_is_number(column.type) or pa.types.is_boolean(column.type) or pa.types.is_decimal(column.type)):
        raise ValueLoadError(f"{path}: the column {name!r} holds {column.type}, where numbers are needed")
    found = np.asarray(column.cast(pa.float64(), safe=False).to_numpy(), np.float64)
    with np.errstate(over="ignore"):
        if np.isinf(found.astype(np.float32)).any():
            raise ValueLoadError(f"{path}: the column {name!r} holds a number that is not finite in float32")
    return found


def _seconds(path: Path, name: str, column: pa.ChunkedArray) -> NDArray[np.float64]:
    """Times as seconds (T,): numbers are taken for such."""
    kind = column.type
    if pa.types.is_time(kind):
        column = column.cast(pa.time64("us"), safe=False)
        found = column.cast(pa.int64()).cast(pa.float64(), safe=False).to_numpy() / 1e6
    elif pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        exact = column.cast(pa.timestamp("us", tz=kind.tz if pa.types.is_timestamp(kind) else None), safe=False)
        found = exact.cast(pa.int64()).cast(pa.float64(), safe=False).to_numpy() / 1e6
    else:
        found = _numbers(path, name, column)
    if not np.isfinite(found).all():
        raise ValueLoadError(f"{path}: the column {name!r} of times has an empty cell")
    return np.asarray(found, np.float64)
