"""Columns of every kind that Arrow has: used, or told to be unreadable, and never a crash."""

from __future__ import annotations

import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from mmreg.data.cells import iter_column, iter_paths
from mmreg.data.identity import value_codes
from mmreg.data.splits import split_rows
from mmreg.data.table import Table, concat_tables
from mmreg.errors import TableError

OFFSETS = pa.array(range(5), pa.int32())
KINDS: dict[str, pa.Array] = {
    "times": pa.array([1, None, 3, 4], pa.timestamp("us", "UTC")),
    "nanoseconds": pa.array([1, 2, 3, 4], pa.timestamp("ns")),
    "durations": pa.array([1, None, 3, 4], pa.duration("us")),
    "dates": pa.array([datetime.date(2020, 1, 1)] * 4),
    "decimals": pa.array([1, 2, None, 4], pa.decimal256(60, 2)),
    "booleans": pa.array([True, None, False, True]),
    "nulls": pa.nulls(4),
    "bytes": pa.array([b"\xff", None, b"", b"ab"]),
    "maps": pa.array([[("a", 1)]] * 4, pa.map_(pa.string(), pa.int64())),
    "lists of maps": pa.array([[[("a", 1)]]] * 4, pa.list_(pa.map_(pa.string(), pa.int64()))),
    "nested lists": pa.array([[[1, 2], [3]]] * 4),
    "structs": pa.array([{"a": 1, "b": {"c": "x"}}, None] * 2),
    "empty structs": pa.array([{}] * 4, pa.struct([])),
    "structs in a dictionary": pa.DictionaryArray.from_arrays(pa.array([0, None, 0, 0]), pa.array([{"a": 1}])),
    "runs": pa.RunEndEncodedArray.from_arrays([2, 4], ["p", "q"]),
    "list views": pa.array([["a"], None, [], ["b", "c"]], pa.list_view(pa.string_view())),
    "lists of views": pa.array([["a"], None, [], ["b"]], pa.list_(pa.string_view())),
    "extensions": pa.ExtensionArray.from_storage(pa.uuid(), pa.array([b"0" * 16] * 4, pa.binary(16))),
}
UNREADABLE: dict[str, pa.Array] = {
    "past the year 9999": pa.array([2**60] * 4, pa.timestamp("s")),
    "a date past it": pa.array([2**30] * 4, pa.date32()),
    "a zone that is none": pa.array([1] * 4, pa.timestamp("us", "Nowhere/Town")),
    "times in a struct": pa.array([{"t": 2**60}] * 4, pa.struct({"t": pa.timestamp("s")})),
    "fields of one name": pa.StructArray.from_arrays([pa.array([1] * 4)] * 2, ["a", "a"]),
    "intervals": pa.array([pa.MonthDayNano((1, 2, 3))] * 4),
    "unions": pa.UnionArray.from_sparse(pa.array([0] * 4, pa.int8()), [pa.array(range(4))]),
    "runs in lists": pa.ListArray.from_arrays(OFFSETS, KINDS["runs"]),
}


def use(table: Table, column: str) -> None:
    """All that is done with a column before a modality sees its values."""
    rows = np.array([2, 0])
    list(table.iter_values(column))
    list(iter_column(table, column, paths=True, rows=rows))
    list(iter_paths(table, column, rows))
    value_codes(table, column, paths=True)
    list(table.select(rows).iter_values(column))
    list(concat_tables([table, table]).iter_values(column))


@pytest.mark.parametrize("kind", KINDS)
def test_columns_of_every_kind_are_used(kind: str) -> None:
    table = Table(pa.table({kind: KINDS[kind]}))
    assert not table.unreadable
    use(table, kind)
    assert table.fingerprint()
    with pytest.raises(TableError):
        split_rows(table, kind, None, 0)


@pytest.mark.parametrize("kind", UNREADABLE)
def test_what_python_cannot_hold_is_told_when_it_is_used_and_not_before(kind: str) -> None:
    table = Table(pa.table({kind: UNREADABLE[kind], "n": [1, 2, 3, 4]}))
    assert table.columns == [kind, "n"]
    assert table.fingerprint()
    use(table, "n")
    for joined in (table, table.select([1]), concat_tables([table, table])):
        with pytest.raises(TableError, match=rf"<table>.*: column '{kind}' cannot be read \("):
            list(joined.iter_values(kind))


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("runs", ["p", "p", "q", "q"]),
        ("list views", [["a"], None, [], ["b", "c"]]),
        ("lists of views", [["a"], None, [], ["b"]]),
        ("structs in a dictionary", [{"a": 1}, None, {"a": 1}, {"a": 1}]),
    ],
)
def test_encodings_that_save_space_are_undone(kind: str, expected: list[Any]) -> None:
    assert list(Table(pa.table({"c": KINDS[kind]})).iter_values("c")) == expected
