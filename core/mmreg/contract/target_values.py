"""A target column's values, or several columns', told apart and counted without a Python object a row.

Axes: N rows, D distinct values, K numbers a row.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

PART = 1024
"""Values that are turned into Python objects at a time."""
FEW = 16
"""Up to so many rows, which may be anywhere, are looked up in the column itself."""


class TargetValues(Sequence[Any]):
    """The values of N rows of a column: a sequence of Python objects, made as they are asked for.

    Args:
        cells: (N,) the values; of a column of Python objects, their positions in `objects`.
        objects: these objects; None if the column holds none.

    Example:
        >>> values = TargetValues(pa.chunked_array([["dog", "cat"], ["dog", None]]))
        >>> list(values)
        ['dog', 'cat', 'dog', None]
        >>> values.distinct()
        (['dog', 'cat', None], array([0, 1, 0, 2]))
    """

    def __init__(self, cells: pa.ChunkedArray, objects: Sequence[Any] | None = None) -> None:
        self._column = _Column(cells, objects)
        self._rows: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self._column.cells) if self._rows is None else len(self._rows)

    def __iter__(self) -> Iterator[Any]:
        for start in range(0, len(self), PART):
            yield from self[start : start + PART]

    @overload
    def __getitem__(self, at: int) -> Any: ...
    @overload
    def __getitem__(self, at: slice) -> list[Any]: ...
    def __getitem__(self, at: int | slice) -> Any:
        if not isinstance(at, slice):
            row = range(len(self))[at]  # raises an IndexError, which ends loops of `index`, `in` and the like
            row = row if self._rows is None else int(self._rows[row])
            return self._column.objects_of(self._column.cells.slice(row % len(self._column.cells), 1))[0]
        if self._rows is None:
            start, stop, step = at.indices(len(self))
            if step == 1:
                return self._column.objects_of(self._column.cells.slice(start, max(stop - start, 0)))
        rows = np.arange(len(self))[at] if self._rows is None else self._rows[at]
        return self._column.objects_at(rows)

    def select(self, rows: NDArray[np.int64]) -> TargetValues:
        """The values of these rows, in that order."""
        chosen = TargetValues.__new__(TargetValues)
        chosen._column = self._column
        chosen._rows = rows if self._rows is None else self._rows[rows]
        return chosen

    def distinct(self) -> tuple[list[Any], NDArray[np.int64]] | None:
        """The D distinct values in the order of their first rows, and which of them each row has, (N,).

        None for a column of Python objects, which are not compared.
        """
        encoded = self._column.encoded
        if encoded is None:
            return None
        values, codes = encoded
        own = codes.astype(np.int64) if self._rows is None else codes[self._rows].astype(np.int64)
        order, own = in_order(own, len(values))
        return [values[code] for code in order.tolist()], own

    def numbers(self) -> NDArray[np.float64] | None:
        """A column of numbers, or of lists of K of them, as (N,) or (N, K), NaN where a number is missing.

        None for a column of anything else, such as texts that read as numbers, and of lists that differ in length.
        """
        numbers = self._column.numbers
        return numbers if numbers is None or self._rows is None else numbers[self._rows]

    def missing(self) -> NDArray[np.bool_]:
        """Which values are null, NaN or infinite, (N,)."""
        missing = self._column.missing
        return missing if self._rows is None else missing[self._rows]

    def is_null(self) -> NDArray[np.bool_]:
        """Which values are null, (N,)."""
        null = np.asarray(self._column.cells.is_null().to_numpy(), bool)
        return null if self._rows is None else null[self._rows]


class TargetRecords(TargetValues):
    """The values of N rows of several target columns: a sequence of dicts by target, None where a row lacks one.

    Args:
        columns: the values of each target, all of N rows.

    Example:
        >>> prices = TargetValues(pa.chunked_array([[1.5, float("nan"), None]]))
        >>> records = TargetRecords({"price": prices, "kind": TargetValues(pa.chunked_array([["a", "b", None]]))})
        >>> list(records)
        [{'price': 1.5, 'kind': 'a'}, {'price': None, 'kind': 'b'}, {'price': None, 'kind': None}]
        >>> records.missing()
        array([False, False,  True])
    """

    def __init__(self, columns: Mapping[str, TargetValues]) -> None:
        self.columns = dict(columns)

    @classmethod
    def of(cls, values: Sequence[Any], names: Iterable[str]) -> TargetRecords:
        """The same of plain dicts, in which a target may be left out; and of what are records already."""
        if isinstance(values, cls):
            return values
        return cls({name: _column_of([value.get(name) for value in values]) for name in names})

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    @overload
    def __getitem__(self, at: int) -> Any: ...
    @overload
    def __getitem__(self, at: slice) -> list[Any]: ...
    def __getitem__(self, at: int | slice) -> Any:
        if not isinstance(at, slice):
            return self[range(len(self))[at] : range(len(self))[at] + 1][0]
        columns = {}
        for name, values in self.columns.items():
            own = values.select(np.arange(len(self))[at])
            columns[name] = [None if lacks else value for value, lacks in zip(own, own.missing().tolist(), strict=True)]
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    def select(self, rows: NDArray[np.int64]) -> TargetRecords:
        """The values of these rows, in that order."""
        return TargetRecords({name: values.select(rows) for name, values in self.columns.items()})

    def distinct(self) -> None:
        """None, as records are not compared."""

    def numbers(self) -> None:
        """None, as records are no numbers."""

    def missing(self) -> NDArray[np.bool_]:
        """Which rows lack every target, or have nothing but NaN and infinite numbers, (N,)."""
        missing: NDArray[np.bool_] = np.all([values.missing() for values in self.columns.values()], axis=0)
        return missing

    def is_null(self) -> NDArray[np.bool_]:
        """As `missing`: what is no finite number counts as not there, as long as a row has another target."""
        return self.missing()


def _column_of(values: list[Any]) -> TargetValues:
    """Plain values as a column; what Arrow has no type for, such as lists of differing kinds, as Python objects."""
    try:
        return TargetValues(pa.chunked_array([pa.array(values)]))
    except (pa.ArrowException, OverflowError):
        return TargetValues(pa.chunked_array([pa.array(np.arange(len(values)))]), values)


class _Column:
    """What is found out once of a column, for all selections of its rows."""

    def __init__(self, cells: pa.ChunkedArray, objects: Sequence[Any] | None) -> None:
        self.cells, self._objects = cells, objects

    def objects_of(self, cells: pa.ChunkedArray | pa.Array) -> list[Any]:
        """Some cells as Python objects."""
        values: list[Any] = cells.to_pylist()
        objects = self._objects
        return values if objects is None else [None if at is None else objects[at] for at in values]

    def objects_at(self, rows: NDArray[np.int64]) -> list[Any]:
        """The values of these rows; of many, from the distinct ones, as equal values may be the same object."""
        if len(rows) <= FEW or self.encoded is None:
            # One by one: `take` across chunks would join them all.
            return [self.objects_of(self.cells.slice(row, 1))[0] for row in rows.tolist()]
        values, codes = self.encoded
        return [values[code] for code in codes[rows].tolist()]

    @cached_property
    def encoded(self) -> tuple[list[Any], NDArray[np.int32]] | None:
        """The distinct values, and which of them each row has; None of Python objects."""
        if self._objects is not None:
            return None
        # Arrow 26 takes the bits of distinct half floats for integers.
        cells = self.cells.cast(pa.float32()) if pa.types.is_float16(self.cells.type) else self.cells
        try:
            encoded = cells.dictionary_encode().unify_dictionaries()
        except pa.ArrowNotImplementedError:  # lists, structs and the like
            return self._by_text()
        values = encoded.chunk(0).dictionary.to_pylist() if encoded.num_chunks else []
        null = len(values)
        parts = [pc.fill_null(chunk.indices, null).to_numpy() for chunk in encoded.chunks]
        values += [None] if encoded.null_count else []
        return values, np.concatenate([np.zeros(0, np.int32), *parts])

    def _by_text(self) -> tuple[list[Any], NDArray[np.int32]]:
        """As `encoded`, where Arrow compares no values: within a column equal ones are written alike."""
        numbers: dict[str, int] = {}
        values: list[Any] = []
        codes = np.empty(len(self.cells), np.int32)
        for start in range(0, len(codes), PART):
            for row, value in enumerate(self.cells.slice(start, PART).to_pylist(), start):
                codes[row] = number = numbers.setdefault(repr(value), len(numbers))
                if number == len(values):
                    values.append(value)
        return values, codes

    @cached_property
    def numbers(self) -> NDArray[np.float64] | None:
        """See `TargetValues.numbers`."""
        kind = self.cells.type
        if self._objects is not None:
            return None
        if _is_number(kind):
            return _floats(self.cells)
        lists = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
        if not lists or not _is_number(kind.value_type) or self.cells.null_count:
            return None
        sizes = pc.unique(pc.list_value_length(self.cells)).to_pylist()
        if len(sizes) != 1 or not sizes[0]:
            return None
        flat = pa.chunked_array([chunk.flatten() for chunk in self.cells.chunks], kind.value_type)
        return _floats(flat).reshape(-1, sizes[0])

    @cached_property
    def missing(self) -> NDArray[np.bool_]:
        """See `TargetValues.missing`."""
        if self._objects is not None:
            at = self.cells.to_numpy()
            return np.array([np.isnan(place) or _is_missing(self._objects[int(place)]) for place in at.tolist()], bool)
        if pa.types.is_floating(self.cells.type):
            return ~np.isfinite(_floats(self.cells))
        return np.asarray(self.cells.is_null().to_numpy(), bool)


def in_order(codes: NDArray[np.int64], count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Numbers (N,) below `count` made anew: 0, 1, 2, ... in the order of their first rows.

    Returns:
        The old number of each new one, and the new numbers (N,).
    """
    if count > 4 * len(codes):  # too few of the numbers occur for a place for each
        occurring_codes, codes = np.unique(codes, return_inverse=True)
        order, rank = in_order(codes, len(occurring_codes))
        return occurring_codes[order], rank
    first = np.full(count, len(codes), np.int64)
    first[codes[::-1]] = np.arange(len(codes) - 1, -1, -1)  # of several rows with one number, the first comes last
    occurring = int((first < len(codes)).sum())
    order = np.argsort(first)[:occurring]
    rank = np.empty(count, np.int64)
    rank[order] = np.arange(occurring)
    return order, rank[codes]


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _floats(cells: pa.ChunkedArray) -> NDArray[np.float64]:
    """Numbers as float64, NaN where they are null."""
    parts = [chunk.to_numpy(zero_copy_only=False) for chunk in cells.chunks]
    return np.concatenate([np.zeros(0), *parts]) if len(parts) != 1 else parts[0].astype(np.float64, copy=False)


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and not np.isfinite(value))
