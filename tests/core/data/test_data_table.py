"""Tables from memory, and what a table can do."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from PIL import Image

from mmreg.data.table import Table, concat_tables, read_table
from mmreg.errors import TableError

ROWS = [{"name": "a", "n": 1, "x": 0.5}, {"name": None, "n": 2, "x": None}, {"name": "c", "n": 3, "x": 2.0}]


def plain(table: Table) -> list[dict[str, Any]]:
    columns = {name: list(table.iter_values(name)) for name in table.columns}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


class Capsule:
    """Anything that speaks the Arrow PyCapsule protocol and nothing else."""

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return pa.Table.from_pylist(ROWS).__arrow_c_stream__(requested_schema)


@pytest.mark.parametrize(
    "source",
    [
        ROWS,
        {"name": ["a", None, "c"], "n": [1, 2, 3], "x": [0.5, None, 2.0]},
        {"name": ["a", None, "c"], "n": np.array([1, 2, 3]), "x": np.array([0.5, np.nan, 2.0])},
        pa.Table.from_pylist(ROWS),
        pa.Table.from_pylist(ROWS).to_batches()[0],
        pd.DataFrame(ROWS),
        pd.DataFrame([{"name": "z", "n": 0, "x": 0.0}, *ROWS]).iloc[1:],
        pl.DataFrame(ROWS),
        Capsule(),
    ],
    ids=["dicts", "lists", "arrays", "arrow", "batch", "pandas", "pandas with an index", "polars", "capsule"],
)
def test_what_python_holds_gives_the_same_table(source: Any) -> None:
    table = read_table(source)
    assert plain(table) == ROWS
    assert table.fingerprint() == read_table(ROWS).fingerprint()
    assert table.name == "<table>"


def test_a_table_is_returned_as_it_is() -> None:
    table = read_table(ROWS)
    assert read_table(table) is table


def test_categories_and_views_are_plain_texts() -> None:
    frame = pd.DataFrame({"c": pd.Categorical(["x", "y", "x"])})
    assert list(read_table(frame).iter_values("c")) == ["x", "y", "x"]
    view = pa.table({"c": pa.array(["x", None], pa.string_view()), "b": pa.array([b"1", None], pa.binary_view())})
    assert plain(read_table(view)) == [{"c": "x", "b": b"1"}, {"c": None, "b": None}]


def test_rows_may_lack_keys_and_hold_paths() -> None:
    assert plain(read_table([{"a": Path("x/y.png")}, {"b": 1}])) == [{"a": "x/y.png", "b": None}, {"a": None, "b": 1}]


def test_arrays_tensors_and_images_are_kept_as_objects() -> None:
    image, array, tensor = Image.new("L", (2, 3)), np.zeros((2, 2)), torch.ones(2, 2)
    table = read_table([{"i": image, "a": array, "t": tensor}, {"i": None, "a": None, "t": None}])
    assert plain(table)[0]["i"] is image
    assert plain(table)[0]["a"] is array
    assert plain(table)[0]["t"] is tensor
    assert plain(table)[1] == {"i": None, "a": None, "t": None}
    assert plain(table.select([1, 0]))[1]["a"] is array


def test_a_pandas_frame_may_hold_arrays() -> None:
    arrays = [np.zeros((2, 2)), np.ones((2, 2))]
    table = read_table(pd.DataFrame({"a": arrays, "b": ["x", "y"]}))
    assert [value.sum() for value in table.iter_values("a")] == [0, 4]
    assert list(table.iter_values("b")) == ["x", "y"]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (3, "found int"),
        ([], "has no rows and no columns: give one row at least, as a dict by column"),
        ([{}], "has no rows and no columns"),
        ({"a": []}, "has no rows: there is nothing to read but the names of its columns"),
        ([1, 2], "row 1 of the list is a int, where a dict is needed"),
        ({"a": [1], "b": [1, 2]}, "differ in length: 'a' has 1, 'b' has 2 values"),
        ({"a": "text"}, "column 'a' is a str, where a list of values is needed"),
        ({"a": [1, "x"]}, "column 'a' mixes int, str"),
        ({"a": [np.zeros((1, 1)), "x"]}, "column 'a' mixes arrays or images with str"),
        ({"a": [object()]}, "column 'a' holds object values"),
    ],
)
def test_what_is_no_table_is_a_table_error(source: Any, message: str) -> None:
    with pytest.raises(TableError, match=message):
        read_table(source)


def test_a_missing_column_is_named_with_its_near_matches() -> None:
    table = read_table(ROWS)
    with pytest.raises(TableError, match=r"no column 'nam'; did you mean 'name'\?; its columns are 'name', 'n', 'x'"):
        table.column("nam")


def test_a_wrong_separator_is_suspected(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a;b\n1\n")
    with pytest.raises(TableError, match="is another character its separator than was found"):
        read_table(tmp_path / "t.csv").column("a")


def test_a_selection_keeps_row_numbers() -> None:
    table = read_table({"a": [10, 20, 30, 40]})
    part = table.select(np.array([False, True, True, True])).select([2, 0])
    assert list(part.iter_values("a")) == [40, 20]
    assert part.row_numbers.tolist() == [3, 1]
    assert part.where(0) == "<table>, row 4"


def test_empty_columns_stand_in_a_copy_alone() -> None:
    table = read_table({"a": [1, 2], "o": [np.zeros((1, 1)), None]}).select([1])
    more = table.with_empty(["b", "a", "c"])
    assert plain(more) == [{"a": 2, "o": None, "b": None, "c": None}]
    assert more.where(0) == "<table>, row 2"
    assert table.columns == ["a", "o"]


def test_values_of_some_rows_across_chunks() -> None:
    data = pa.chunked_array([list(range(start, start + 700)) for start in range(0, 2800, 700)])
    table = read_table(pa.table({"a": data}))
    rows = np.random.default_rng(0).permutation(2800)[:1500]
    assert list(table.iter_values("a", rows)) == rows.tolist()
    assert list(table.iter_values("a")) == list(range(2800))


def test_the_fingerprint_follows_values_names_and_nulls_but_not_chunks() -> None:
    base = read_table({"a": ["x", "", None], "b": [1, 2, 3]})
    same = pa.table({"a": pa.chunked_array([["x"], ["", None]]), "b": [1, 2, 3]})
    assert read_table(same).fingerprint() == base.fingerprint()
    others = [
        {"a": ["x", None, None], "b": [1, 2, 3]},
        {"a": ["x", None, ""], "b": [1, 2, 3]},
        {"c": ["x", "", None], "b": [1, 2, 3]},
        {"a": ["x", "", None], "b": [1, 2, 4]},
        {"a": ["x", "", None], "b": ["1", "2", "3"]},
        {"a": [b"x", b"", None], "b": [1, 2, 3]},
    ]
    prints = {read_table(other).fingerprint() for other in others}
    assert len(prints) == len(others)
    assert base.fingerprint() not in prints


def test_the_fingerprint_follows_nested_values_and_objects() -> None:
    def fingerprint(value: Any) -> str:
        return read_table({"a": [value, None]}).fingerprint()

    lists = [fingerprint(value) for value in ([[1], [2, 3]], [[1, 2], [3]], [[1], [2, 4]])]
    arrays = [fingerprint(value) for value in (np.zeros((2, 2)), np.zeros((4, 1)), np.ones((2, 2)))]
    fields = [fingerprint({"x": 1}), fingerprint({"y": 1})]
    assert len({*lists, *arrays, *fields}) == 8
    assert fingerprint(np.zeros((2, 2))) == arrays[0]


def test_joined_tables_keep_names_numbers_and_folders(tmp_path: Path) -> None:
    first = Table(pa.table({"a": ["x", "y"], "id": [1, 2]}), name="one.csv", folder=tmp_path / "one")
    second = Table(pa.table({"a": ["z"], "id": ["007"], "extra": [1.0]}), name="two.csv", folder=tmp_path / "two")
    table = concat_tables([first.select([1]), second])
    assert plain(table) == [{"a": "y", "id": "2", "extra": None}, {"a": "z", "id": "007", "extra": 1.0}]
    assert [table.where(0), table.where(1)] == ["one.csv, row 2", "two.csv, row 1"]
    assert table.folders(np.array([1, 0])) == [tmp_path / "two", tmp_path / "one"]
    assert table.name == "one.csv, two.csv"


def test_joined_tables_keep_objects() -> None:
    arrays = [np.full((1, 1), n) for n in range(3)]
    table = concat_tables([read_table({"a": arrays[:2]}), read_table({"a": [None, arrays[2]]})])
    assert [None if value is None else int(value[0, 0]) for value in table.iter_values("a")] == [0, 1, None, 2]


def test_columns_that_do_not_go_together_are_not_joined() -> None:
    with pytest.raises(TableError, match=r"column 'a' holds .*list.* make it the same in all tables"):
        concat_tables([read_table({"a": [[1, 2]]}), read_table({"a": ["x"]})])
    with pytest.raises(TableError, match="column 'a' holds Python objects in one table"):
        concat_tables([read_table({"a": [np.zeros((1, 1))]}), read_table({"a": ["x"]})])
