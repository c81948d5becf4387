"""Which cells are equal, found a column at a time."""

from __future__ import annotations

import datetime
import decimal

import numpy as np
import pyarrow as pa
import pytest

from mmreg.data.cells import iter_column
from mmreg.data.identity import cell_codes, value_codes
from mmreg.data.table import concat_tables, read_table

KINDS: dict[str, pa.Array] = {
    "texts": pa.array(["b", "a", None, "", "b", "a ", "\u00e9", "e\u0301"]),
    "integers": pa.array([3, 1, None, 3, -1, 0, 1, 2**62]),
    "floats": pa.array([0.5, float("nan"), None, 0.5, 0.0, -0.0, 1.5, 2.0]),
    "half floats": pa.array(np.array([0.5, 1, 0.5, 2, 3, 1, np.nan, 0], np.float16)),
    "truths": pa.array([True, None, False, True, True, False, None, True]),
    "dates": pa.array([datetime.date(2020, 1, day) for day in (1, 2, 1, 3, 2, 1, 4, 5)]),
    "times": pa.array([1, None, 1, 2, 3, 3, 1, 2], pa.timestamp("us", "UTC")),
    "decimals": pa.array([decimal.Decimal(n) for n in (1, 2, 1, 2, 1, 3, 1, 2)], pa.decimal128(6, 2)),
    "bytes": pa.array([b"a", b"", None, b"a", b"b", b"", b"\xff", b"c"]),
    "lists": pa.array([[1], [2], [1], None, [1, 2], [], [2], [1]]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_cells_share_a_number_if_they_are_written_alike_and_those_that_are_absent_have_none(kind: str) -> None:
    halves = pa.chunked_array([KINDS[kind].slice(0, 3), KINDS[kind].slice(3)])
    table = read_table(pa.table({"x": halves}))
    values = [
        None if value is None or len(str(value)) == 0 else str(value) for value in iter_column(table, "x", paths=False)
    ]
    codes = value_codes(table, "x", paths=False).tolist()
    numbers: dict[str, int] = {}
    expected = [-1 if value is None else numbers.setdefault(value, len(numbers)) for value in values]
    seen: dict[int, int] = {}
    found = [-1 if code < 0 else seen.setdefault(code, len(seen)) for code in codes]
    assert found == expected


def test_distinct_cells_are_numbered_in_the_order_of_their_first_rows_null_among_them() -> None:
    table = read_table({"x": ["b", None, "a", "b", None, "a", "c"]})
    assert cell_codes(table, ["x"], paths=False).tolist() == [0, 1, 2, 0, 1, 2, 3]
    assert cell_codes(read_table({"x": [7, 7]}), ["x"], paths=False).tolist() == [0, 1]  # numbers are not compared


def test_paths_of_several_folders_are_told_apart() -> None:
    first, second = (read_table(pa.table({"x": ["b", None, "a"]}), folder) for folder in ("one", "two"))
    joined = concat_tables([first, second])
    assert cell_codes(joined, ["x"], paths=True).tolist() == [0, 1, 2, 3, 1, 4]
    assert cell_codes(joined, ["x"], paths=False).tolist() == [0, 1, 2, 0, 1, 2]
