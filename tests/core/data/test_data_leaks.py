"""The same value in two splits."""

from pathlib import Path

import numpy as np
import pyarrow as pa

from mmreg.data.leaks import Leak, leaks, leaks_text
from mmreg.data.table import Table, concat_tables, read_table

SPLITS = {"train": np.array([0, 1, 2]), "test": np.array([3, 4, 5])}


def test_shared_values_are_counted_by_value_and_by_row() -> None:
    table = read_table({"text": ["x", "y", "", "x", "x", ""], "n": [1, 1, 1, 1, 1, 1]})
    found = leaks(table, SPLITS, ["text", "n"])
    assert found == [Leak("text", "train", "test", values=1, rows=2, of=3)]
    assert str(found[0]) == "2 of 3 test rows hold 1 value of train"


def test_every_pair_of_splits_is_compared() -> None:
    table = read_table({"text": ["x", "y", "x", "y"]})
    splits = {"train": np.array([0]), "validation": np.array([1, 2]), "test": np.array([3])}
    assert [(leak.first, leak.second) for leak in leaks(table, splits, ["text"])] == [
        ("train", "validation"),
        ("validation", "test"),
    ]


def test_all_leaks_are_told_in_one_line_by_column() -> None:
    table = read_table({"text": ["x", "y", "x", "y"], "name": ["a", "b", "c", "a"]})
    splits = {"train": np.array([0]), "validation": np.array([1, 2]), "test": np.array([3])}
    assert leaks_text(leaks(table, splits, ["text", "name"])) == (
        "figures may be too good, as splits share values: column text: 1 of 2 validation rows hold 1 value of train, "
        "1 of 1 test row holds 1 value of validation; column name: 1 of 1 test row holds 1 value of train"
    )
    many = [Leak(f"c{number}", "train", "test", 1, 2, 3) for number in range(7)]
    assert leaks_text(many).endswith("column c4: 2 of 3 test rows hold 1 value of train; 2 more columns")


def test_bytes_lists_and_arrays_are_compared_by_their_values() -> None:
    array = np.zeros((2, 2))
    table = read_table(
        {
            "bytes": [b"1", b"2", b"3", b"1", b"4", None],
            "list": [[1], [2], [3], [4], [5], [2]],
            "array": [array, array + 1, array + 2, array.reshape(1, 4), array + 1, None],
            "file": [{"bytes": b"1", "path": str(row)} for row in range(3)] + [{"bytes": b"1", "path": "x"}] * 3,
        }
    )
    found = {leak.column: leak.rows for leak in leaks(table, SPLITS, table.columns)}
    assert found == {"bytes": 1, "list": 1, "array": 1, "file": 3}


def test_paths_are_the_same_only_in_the_same_folder(tmp_path: Path) -> None:
    parts = [Table(pa.table({"file": ["x"]}), folder=tmp_path / name) for name in ("one", "two", "one")]
    table = concat_tables(parts)
    splits = {"train": np.array([0]), "validation": np.array([1]), "test": np.array([2])}
    assert [(leak.first, leak.second) for leak in leaks(table, splits, ["file"], paths=["file"])] == [("train", "test")]
    assert len(leaks(table, splits, ["file"])) == 3
