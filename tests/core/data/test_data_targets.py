"""The target column: rows without a target, what the task makes of it, and the weights of losses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mmreg import registry
from mmreg.contract.task import Task
from mmreg.data.table import read_table
from mmreg.data.targets import TargetColumn, row_weights
from mmreg.errors import TableError, TargetError

SPLITS = {"train": np.array([0, 1, 2]), "validation": np.array([4]), "test": np.array([], np.int64)}


def column(values: list[Any]) -> TargetColumn:
    return TargetColumn(read_table({"y": values}), "y")


def classification(**options: Any) -> Task:
    task: Task = registry.build("task", "classification", **options)
    return task


def test_a_column_that_is_not_there_is_named() -> None:
    with pytest.raises(TableError, match="no column 'z'"):
        TargetColumn(read_table({"y": ["a"]}), "z")


def test_rows_whose_targets_are_there_are_kept_as_they_are() -> None:
    splits, messages = column(["a", "b", "a", None, "b"]).known(SPLITS, skip=False)  # row 4 is in no split
    assert messages == []
    assert {name: rows.tolist() for name, rows in splits.items()} == {
        "train": [0, 1, 2],
        "validation": [4],
        "test": [],
    }


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (
            ["a", None, "a", "b", None],
            r"^2 rows have no value in the target column 'y' \(first: <table>, row 2: empty\)",
        ),
        ([1.0, np.inf, 1.0, 2.0, 3.0], r"^1 row has no finite value in the target column 'y' .*row 2: inf\)"),
    ],
)
def test_rows_without_a_target_stop_unless_they_are_skipped(values: list[Any], said: str) -> None:
    target = column(values)
    with pytest.raises(TargetError, match=f"{said}; fill them, remove them, or set on_bad: skip$"):
        target.known(SPLITS, skip=False)
    splits, messages = target.known(SPLITS, skip=True)
    assert splits["train"].tolist() == [0, 2]
    assert len(messages) == 1
    assert messages[0].endswith("; skipped")


def test_a_training_without_any_target_is_refused() -> None:
    with pytest.raises(TargetError, match=r"3 rows have no value .*: no training row is left"):
        column([None, None, None, "a", "b"]).known(SPLITS, skip=True)


def test_targets_are_encoded_where_a_split_needs_them() -> None:
    target, task = column(["a", "b", "a", "never seen", "b"]), classification()
    target.fit(task, SPLITS["train"])
    assert target.encode(task, SPLITS).tolist() == [0, 1, 0, 0, 1]


def test_a_target_that_does_not_fit_is_named_with_its_split_and_row() -> None:
    target, task = column(["a", "b", "a", "b", "c"]), classification()
    target.fit(task, SPLITS["train"])
    with pytest.raises(TargetError, match=r"<table>, column 'y', validation rows: .*'c'.*\(first: <table>, row 5\)"):
        target.encode(task, SPLITS)
    with pytest.raises(TargetError, match="<table>, column 'y', train rows: "):
        column(["a", "a", "a", "b", "b"]).fit(classification(), SPLITS["train"])


def test_weights_are_those_of_the_column_times_those_of_the_task() -> None:
    table = read_table({"y": ["a", "b", "a", "b", "b"], "w": [1, 2, 4, None, 0.5]})
    target, task = TargetColumn(table, "y"), classification(class_weights={"a": 1.0, "b": 10.0})
    target.fit(task, SPLITS["train"])
    targets = target.encode(task, SPLITS)
    weights = row_weights(task, table, "w", targets, SPLITS)
    assert weights[[0, 1, 2, 4]].tolist() == [1, 20, 4, 5]
    assert weights.dtype == np.float32
    assert row_weights(task, table, None, targets, SPLITS).tolist() == [1, 10, 1, 1, 10]


@pytest.mark.filterwarnings("error")
def test_large_and_small_weights_are_taken_as_they_are() -> None:
    table = read_table({"y": ["a", "b", "a", "b", "b"], "w": [1e38, 1e-46, 1e-40, 1e300, 1e-45]})
    target, task = TargetColumn(table, "y"), classification()
    target.fit(task, SPLITS["train"])
    weights = row_weights(task, table, "w", target.encode(task, SPLITS), SPLITS)
    expected = np.array([1e38, 0, 1e-40, 1e-45], np.float32)
    assert weights[[0, 1, 2, 4]].tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ([1, -1, None, 1, 1], r"must hold numbers of at least 0; 2 rows do not \(first: <table>, row 2 holds -1"),
        ([1, 1, 1, 1, 0], "is zero in every validation row"),
        (
            [1, 1e39, 1, 1e40, 1],
            r"must hold numbers of at most 3.4e\+38 \(float32\); 1 row holds more \(first: <table>, row 2 holds 1e\+39",
        ),
        ([3e38, 3e38, 1, 1, 1], r"adds up to 6e\+38 over the train rows, .*: divide all weights by the same number"),
        ([1e-46, 1e-47, 0, 1, 1], "holds at most 1e-46 in the train rows, .*: multiply all weights by the same number"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_weights_that_mean_nothing_are_refused(weights: list[Any], said: str) -> None:
    table = read_table({"y": ["a", "b", "a", "b", "b"], "w": weights})
    target, task = TargetColumn(table, "y"), classification()
    target.fit(task, SPLITS["train"])
    with pytest.raises(TargetError, match=said):
        row_weights(task, table, "w", target.encode(task, SPLITS), SPLITS)


def test_weights_that_classes_make_too_large_are_refused() -> None:
    table = read_table({"y": ["a", "b", "a", "b", "b"], "w": [1, 1e38, 1, 1, 1]})
    target, task = TargetColumn(table, "y"), classification(class_weights={"a": 1.0, "b": 10.0})
    target.fit(task, SPLITS["train"])
    with pytest.raises(TargetError, match=r"adds up to 1e\+39 over the train rows, the weights of classes included,"):
        row_weights(task, table, "w", target.encode(task, SPLITS), SPLITS)


@pytest.mark.parametrize(
    ("task", "split", "classes"),
    [
        ("multilabel", {"stratify": True}, [2, 0, 1, 0, -1, -1]),
        ("multilabel", {"stratify": None}, None),
        ("multilabel", {}, None),
        ("multilabel", "a column", None),
        ("classification", {}, [0, 1, 2, 3, 4, 5]),
    ],
)
def test_rows_are_spread_over_random_splits_by_their_class_or_if_asked_for_by_their_rarest_label(
    task: str, split: Any, classes: list[int] | None
) -> None:
    cells = ["a,b,c", "a,b", "b", "a", "", None]  # three rows have a, three b, and one c
    drawn = column(cells).classes(registry.build("task", task), split)
    assert (None if drawn is None else drawn.tolist()) == classes
