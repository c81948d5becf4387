"""A target column's values: told apart and encoded as Python objects would be, without making any."""

from __future__ import annotations

import datetime
import decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmreg import registry
from mmreg.contract.target_values import TargetValues, in_order
from mmreg.data.table import Table, concat_tables, read_table
from mmreg.data.targets import TargetColumn
from mmreg.errors import MmregError
from mmreg.experiment import open_experiment
from mmreg.recipe.recipe import read_recipe
from mmreg.recipe.resolve import resolve

COLUMNS: dict[str, pa.Array] = {
    "texts": pa.array(["dog", "cat", "", "dog", "caf\u00e9", "cafe\u0301", "cat", "dog"]),
    "texts and nulls": pa.array(["dog", None, "cat", None, "dog", " ", "cat", "dog"]),
    "texts of numbers": pa.array(["1", "2.5", "1e3", "1", " 7", "2.5", "1", "1.0"]),
    "texts, one of no number": pa.array(["1", "2.5", "x", "1", "x", "y", "x", "1.0"]),
    "joined labels": pa.array(["sea,sun", "sun", "", "sun, sea", ",", "sea", "sun", "sea,sun"]),
    "joined labels and a null": pa.array(["sea,sun", "sun", None, "sun, sea", ",", "sea", "sun", "sea,sun"]),
    "integers": pa.array([1, 2, 1, 3, 2, 1, 1, 2]),
    "large integers": pa.array([2**63, 2, 2**64 - 1, 3, 2, 1, 1, 2], pa.uint64()),
    "integers and nulls": pa.array([1, None, 1, 3, None, 1, 1, 2], pa.int16()),
    "floats": pa.array([0.5, -0.25, 1e300, 0.5, 3.0, 3.0, 0.1, 2.0]),
    "half floats": pa.array(np.array([0.5, 1, 1, 0.5, 2, 0.5, 1, 1], np.float16)),
    "single floats": pa.array([0.1, 0.2, 0.1, 0.3, 0.1, 0.1, 0.2, 0.2], pa.float32()),
    "floats that are not finite": pa.array([0.5, float("nan"), None, float("inf"), float("nan"), 0.5, 1.0, 1.0]),
    "both zeros": pa.array([0.0, -0.0, 1.0, 1.0, -0.0, 0.0, 1.0, 0.0]),
    "the same number": pa.array([4] * 8),
    "truths": pa.array([True, False, True, None, True, False, False, True]),
    "decimals": pa.array([decimal.Decimal(n) / 4 for n in (1, 2, 1, 2, 1, 3, 1, 2)], pa.decimal128(6, 2)),
    "dates": pa.array([datetime.date(2020, 1, day) for day in (1, 2, 1, 2, 1, 2, 1, 2)]),
    "lists of labels": pa.array([["a"], ["a", "b"], [], ["b"], ["b", "a"], ["a"], [], ["c"]]),
    "lists of labels, with nulls": pa.array([["a"], None, [], ["b", None], ["b", "a"], ["a"], [], ["c"]]),
    "lists of numbers": pa.array([[1.0, 2.0], [3.0, 4.0], [1.0, 2.0], [0.0, 1.0]] * 2),
    "lists of integers": pa.array([[1, 2], [3, 4], [1, 2], [0, 1]] * 2, pa.large_list(pa.int32())),
    "fixed lists": pa.array([[1, 2], [3, 4], [1, 2], [0, 1]] * 2, pa.list_(pa.float32(), 2)),
    "fixed lists, one null": pa.array([[1, 2], [3, 4], None, [0, 1]] * 2, pa.list_(pa.float32(), 2)),
    "lists with a null inside": pa.array([[1.0, None], [3.0, 4.0]] * 4),
    "lists that differ in length": pa.array([[1.0], [3.0, 4.0]] * 4),
    "empty lists": pa.array([[]] * 8, pa.list_(pa.float64())),
    "structs": pa.array([{"a": 1}, {"a": 2}] * 4),
    "bytes": pa.array([b"a", b"b"] * 4),
    "nulls": pa.nulls(8),
    "a dictionary": pa.array(["dog", "cat", None, "dog", "owl", "cat", "cat", "dog"]).dictionary_encode(),
}
TASKS: dict[str, dict[str, Any]] = {
    "classification": {"class_weights": "balanced"},
    "multilabel": {"class_weights": "balanced"},
    "regression": {},
}


def in_chunks(array: pa.Array, name: str = "y") -> Table:
    """A column in three chunks, one of them empty and each a slice of something longer."""
    longer = pa.concat_arrays([array.slice(0, 1), array, array.slice(0, 1)])
    chunks = [longer.slice(1, 3), longer.slice(4, 0), longer.slice(4, len(array) - 3)]
    return read_table(pa.table({name: pa.chunked_array(chunks)}))


def outcome(function: Any, *arguments: Any) -> Any:
    """What a call gave, in a form to compare, or the error that it raised."""
    try:
        given = function(*arguments)
    except MmregError as error:
        return type(error), str(error)
    return (given.dtype, given.shape, given.tobytes()) if isinstance(given, np.ndarray) else given


@pytest.mark.parametrize("kind", COLUMNS)
def test_values_are_those_that_arrow_gives(kind: str) -> None:
    table = in_chunks(COLUMNS[kind])
    values, expected = TargetValues(table.column("y")), COLUMNS[kind].to_pylist()
    rows = np.array([6, 1, 1, 0, 3])
    assert repr(list(values)) == repr(expected)
    assert repr(list(values.select(rows))) == repr([expected[row] for row in rows])
    assert repr([values[1], values.select(rows)[2], values[-1]]) == repr([expected[1], expected[1], expected[-1]])
    assert repr(values[2:7:2]) == repr(expected[2:7:2])
    finite = [value is not None and not (isinstance(value, float) and not np.isfinite(value)) for value in expected]
    assert values.missing().tolist() == [not there for there in finite]
    assert values.is_null().tolist() == [value is None for value in expected]


@pytest.mark.parametrize("kind", COLUMNS)
def test_distinct_values_come_in_the_order_of_their_first_rows(kind: str) -> None:
    values, rows = TargetValues(in_chunks(COLUMNS[kind]).column("y")), np.array([7, 4, 1, 4, 0, 6, 7, 2])
    for some in (values, values.select(rows), values.select(rows[:0])):
        told = some.distinct()
        assert told is not None
        distinct, codes = told
        assert [distinct[code] == value or value != value for code, value in zip(codes, some, strict=True)] == [
            True
        ] * len(some)
        first = dict.fromkeys(codes.tolist())
        assert list(first) == list(range(len(distinct)))


@pytest.mark.parametrize("kind", COLUMNS)
@pytest.mark.parametrize("name", TASKS)
def test_a_task_makes_of_a_column_what_it_makes_of_a_list(name: str, kind: str) -> None:
    table = in_chunks(COLUMNS[kind])
    values = TargetValues(table.column("y"))
    train, rest = np.array([0, 1, 2, 5, 0, 2, 1, 3]), np.array([4, 6, 7])
    tasks = [registry.build("task", name, **TASKS[name]) for _ in range(2)]
    by_list, by_column = tasks
    learned = outcome(by_list.fit, list(values.select(train)))
    assert outcome(by_column.fit_column, values.select(train)) == learned
    assert by_column.state() == by_list.state()
    for rows in (train, rest, rest[:0]):
        expected = outcome(by_list.encode, list(values.select(rows)))
        assert outcome(by_column.encode_column, values.select(rows)) == expected


def test_a_column_of_python_objects_is_a_list_of_them() -> None:
    table = read_table({"y": [np.array([1.0, 2.0]), None, np.array([3.0, 5.0])]})
    target = TargetColumn(table, "y")
    assert target.values.distinct() is None
    assert target.values.numbers() is None
    assert target.values.missing().tolist() == [False, True, False]
    task = registry.build("task", "regression")
    target.fit(task, np.array([0, 2]))
    assert target.encode(task, {"train": np.array([0, 2])}).tolist() == [[-1, -1], [0, 0], [1, 1]]


def test_tables_that_were_joined_are_told_apart_as_one() -> None:
    tables = [in_chunks(COLUMNS["texts"]), in_chunks(COLUMNS["texts and nulls"])]
    joined = concat_tables(tables)
    told = TargetValues(joined.column("y")).distinct()
    assert told is not None
    assert told[0] == ["dog", "cat", "", "caf\u00e9", "cafe\u0301", None, " "]


def test_numbers_are_made_anew_in_the_order_of_their_first_rows() -> None:
    codes = np.array([5, 2, 5, 0, 2, 9])
    for count in (10, 10**12):  # with a place for each number, and without
        order, own = in_order(codes, count)
        assert order.tolist() == [5, 2, 0, 9]
        assert own.tolist() == [0, 1, 0, 2, 1, 3]


def test_a_training_begins_without_a_python_object_for_each_target(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = 5_000
    table = pa.table({"x": ["red cat", "blue dog"] * (rows // 2), "y": ["cat", "dog"] * (rows // 2)})
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=700)
    form = {
        "table": str(tmp_path / "t.parquet"),
        "target": {"column": "y"},
        "modalities": {"x": {"type": "text"}},
        "split": {"validation": 0.2, "test": 0.1},
    }

    def made(*arguments: Any) -> Any:
        raise AssertionError("targets became Python objects")

    monkeypatch.setattr(TargetValues, "__iter__", made)
    monkeypatch.setattr(TargetValues, "__getitem__", made)
    monkeypatch.setattr(Table, "iter_values", made)
    experiment = open_experiment(resolve(read_recipe(form)))
    experiment.table.fingerprint()
    assert experiment.targets.tolist() == [0, 1] * (rows // 2)


@pytest.mark.parametrize("rows", [None, [4, 2, 2, 0, -1], []], ids=["all rows", "some rows", "no rows"])
@pytest.mark.parametrize("cells", [["a", "b", None, "a", "c"], [1, 2, 3], []], ids=["texts", "numbers", "nothing"])
def test_values_are_a_sequence_as_a_list_is(cells: list[Any], rows: list[int] | None) -> None:
    values, expected = TargetValues(pa.chunked_array([cells[:2], cells[2:]], pa.array(cells).type)), cells
    if rows is not None:
        chosen = [row % len(cells) for row in rows] if cells else []
        values, expected = values.select(np.array(chosen, np.int64)), [cells[row] for row in chosen]
    size = len(expected)
    assert len(values) == size
    assert list(values) == expected
    assert list(reversed(values)) == expected[::-1]
    assert [values[at] for at in range(-size, size)] == expected + expected
    for at in (size, size + 1, -size - 1):
        with pytest.raises(IndexError):
            values[at]
    for start in (None, -7, -2, 0, 1, 4, 9):
        for stop in (None, -7, -2, 0, 1, 4, 9):
            for step in (None, -3, -1, 1, 2):
                assert values[start:stop:step] == expected[start:stop:step]
    assert "zzz" not in values
    with pytest.raises(ValueError):
        values.index("zzz")
    for value in expected:
        assert value in values
        assert (values.index(value), values.count(value)) == (expected.index(value), expected.count(value))
    if size:
        assert values[np.int64(1)] == expected[1]
