"""Which rows are for training, validation and test."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mmreg.data.splits import split_rows
from mmreg.data.table import concat_tables, read_table
from mmreg.errors import TableError

CLASSES = ["a"] * 50 + ["b"] * 30 + ["c"] * 20


def numbered(count: int, **columns: Any) -> Any:
    return read_table({"n": list(range(count)), **columns})


def as_lists(splits: dict[str, NDArray[np.int64]]) -> dict[str, list[int]]:
    return {name: rows.tolist() for name, rows in splits.items()}


def test_a_column_names_the_splits_in_any_of_their_spellings() -> None:
    table = read_table({"s": ["train", "Val", "VALID", "validation", "dev ", "test", "train"]})
    assert as_lists(split_rows(table, "s", None, 0)) == {"train": [0, 6], "validation": [1, 2, 3, 4], "test": [5]}


def test_a_column_may_leave_out_validation_and_test() -> None:
    assert as_lists(split_rows(read_table({"s": ["train", "train"]}), "s", None, 0)) == {"train": [0, 1]}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["train", "holdout", "holdout", None], "found 'holdout' in 2 rows, .*nothing in 1 row"),
        ([0, 1, 1], "found 1 in 2 rows, 0 in 1 row"),
        (["val", "test"], "no row is for training"),
    ],
)
def test_other_words_in_a_split_column_are_an_error(values: list[Any], message: str) -> None:
    with pytest.raises(TableError, match=message):
        split_rows(read_table({"s": values}), "s", None, 0)


def test_shares_cover_every_row_once_and_follow_the_seed() -> None:
    first, again, other = (split_rows(numbered(100), {"validation": 0.2, "test": 0.3}, None, s) for s in (0, 0, 1))
    assert {name: len(rows) for name, rows in first.items()} == {"train": 50, "validation": 20, "test": 30}
    assert sorted(np.concatenate(list(first.values())).tolist()) == list(range(100))
    assert as_lists(first) == as_lists(again)
    assert as_lists(first) != as_lists(other)
    assert all((np.diff(rows) > 0).all() for rows in first.values())


def test_without_anything_said_a_tenth_each_is_held_out_and_classes_are_stratified() -> None:
    splits = split_rows(numbered(100), None, CLASSES, 0)
    assert {name: len(rows) for name, rows in splits.items()} == {"train": 80, "validation": 10, "test": 10}
    for rows in (splits["validation"], splits["test"]):
        found = Counter(CLASSES[row] for row in rows)
        assert all(abs(found[name] - 0.1 * CLASSES.count(name)) <= 1 for name in "abc")


def test_shares_may_have_a_seed_of_their_own() -> None:
    shares = {"validation": 0.2, "test": 0.3}
    own = split_rows(numbered(100), {**shares, "seed": 1}, None, 0)
    assert as_lists(own) == as_lists(split_rows(numbered(100), shares, None, 1))
    assert as_lists(own) != as_lists(split_rows(numbered(100), {**shares, "seed": None}, None, 0))


@pytest.mark.parametrize("seed", range(5))
def test_stratified_shares_hold_for_many_small_classes(seed: int) -> None:
    classes = np.repeat(np.arange(50), 10)
    splits = split_rows(numbered(500), {"validation": 0.1, "test": 0.1}, classes, seed)
    assert len(splits["test"]) == len(splits["validation"]) == 50
    for name in ("validation", "test"):
        assert np.bincount(classes[splits[name]], minlength=50).max() <= 2


def test_every_class_has_a_training_row() -> None:
    classes = [*"abcdefgh", *"ii"] * 1
    for seed in range(20):
        splits = split_rows(numbered(10), {"validation": 0.3, "test": 0.3}, classes, seed)
        assert {classes[row] for row in splits["train"]} == set(classes)


def test_groups_stay_together_and_shares_are_near() -> None:
    random = np.random.default_rng(0)
    groups = random.integers(0, 40, 1000)
    table = numbered(1000, g=[f"speaker {group}" for group in groups])
    shares = {"validation": 0.2, "test": 0.1, "by": "g"}
    splits = split_rows(table, shares, None, 3)
    sets = [set(groups[rows].tolist()) for rows in splits.values()]
    assert sum(map(len, sets)) == len(set.union(*sets)) == 40
    assert abs(len(splits["validation"]) - 200) < 50
    assert abs(len(splits["test"]) - 100) < 50
    assert as_lists(splits) == as_lists(split_rows(table, shares, None, 3))
    assert as_lists(splits) != as_lists(split_rows(table, shares, None, 4))


def test_groups_can_be_stratified() -> None:
    random = np.random.default_rng(0)
    groups = np.repeat(np.arange(100), 10)
    classes = np.where(random.random(100) < 0.3, "x", "y")[groups]
    table = numbered(1000, g=groups.tolist())
    splits = split_rows(table, {"validation": 0.2, "test": 0.2, "by": "g", "stratify": True}, classes.tolist(), 0)
    share = (classes == "x").mean()
    for rows in splits.values():
        assert abs((classes[rows] == "x").mean() - share) < 0.05
    sets = [set(groups[rows].tolist()) for rows in splits.values()]
    assert sum(map(len, sets)) == 100


def test_rows_without_a_group_stand_alone_and_a_large_group_starves_no_split() -> None:
    table = numbered(100, g=["big"] * 96 + [None] * 4)
    for seed in range(10):
        splits = split_rows(table, {"validation": 0.1, "test": 0.1, "by": "g"}, None, seed)
        assert set(splits) == {"train", "validation", "test"}
        assert max(len(rows) for rows in splits.values()) >= 96


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ({"validation": 0.5, "test": 0.5}, "leave nothing for training"),
        ({"validation": -0.1}, "leave nothing for training"),
        ({"by": "g"}, "split by 'g': 3 splits need as many groups at least, found 2"),
        ({"by": "nowhere"}, "no column 'nowhere'"),
        ({"stratify": True}, "stratify needs a target of classes or labels"),
    ],
)
def test_shares_that_cannot_be_are_an_error(split: dict[str, Any], message: str) -> None:
    with pytest.raises(TableError, match=message):
        split_rows(numbered(10, g=["a", "b"] * 5), split, None, 0)


def test_tables_by_split_count_their_rows_as_if_joined() -> None:
    tables = {"train": numbered(3), "val": numbered(2), "test": numbered(1)}
    assert as_lists(split_rows(tables, None, None, 0)) == {"train": [0, 1, 2], "validation": [3, 4], "test": [5]}
    assert len(concat_tables(list(tables.values()))) == 6


def test_a_share_may_be_taken_from_the_training_table() -> None:
    tables = {"test": numbered(10), "train": numbered(100)}
    classes = ["t"] * 10 + CLASSES
    splits = split_rows(tables, {"validation": 0.2}, classes, 0)
    assert splits["test"].tolist() == list(range(10))
    assert len(splits["validation"]) == 20
    assert sorted([*splits["train"], *splits["validation"]]) == list(range(10, 110))
    assert Counter(classes[row] for row in splits["validation"]) == {"a": 10, "b": 6, "c": 4}


@pytest.mark.parametrize(
    ("names", "split", "message"),
    [
        (["test"], None, "one of the tables must be for training, found test"),
        (["train", "test"], "s", "names a column, but there is a table for each split"),
        (["train", "test"], {"test": 0.1}, "gives a share for test, for which there is a table"),
    ],
)
def test_tables_by_split_that_contradict_the_split_are_an_error(names: list[str], split: Any, message: str) -> None:
    with pytest.raises(TableError, match=message):
        split_rows({name: numbered(2) for name in names}, split, None, 0)


FOLDS = {"folds": 5, "validation": 0.2}


def all_folds(table: Any, split: dict[str, Any], classes: Any, seed: int = 0) -> list[dict[str, NDArray[np.int64]]]:
    return [split_rows(table, {**split, "fold": fold}, classes, seed) for fold in range(1, split["folds"] + 1)]


def test_every_row_is_for_testing_in_one_fold_and_each_class_alike_in_all() -> None:
    classes = ["a"] * 51 + ["b"] * 30 + ["c"] * 22
    folds = all_folds(numbered(103), FOLDS, classes)
    assert sorted(np.concatenate([fold["test"] for fold in folds]).tolist()) == list(range(103))
    for fold in folds:
        assert sorted(np.concatenate(list(fold.values())).tolist()) == list(range(103))
        assert len(fold["test"]) in (20, 21)
        assert len(fold["validation"]) == round(0.2 * (103 - len(fold["test"])))
        found = Counter(classes[row] for row in fold["test"])
        assert all(abs(found[name] - classes.count(name) / 5) < 1 for name in "abc")
    assert as_lists(folds[0]) == as_lists(all_folds(numbered(103), FOLDS, classes)[0])
    assert as_lists(folds[0]) != as_lists(all_folds(numbered(103), FOLDS, classes, seed=1)[0])


def test_rows_of_a_group_are_in_one_fold_and_one_split() -> None:
    groups = [number // 4 for number in range(120)]
    folds = all_folds(numbered(120, who=groups), {**FOLDS, "by": "who"}, CLASSES + CLASSES[:20])
    assert sorted(np.concatenate([fold["test"] for fold in folds]).tolist()) == list(range(120))
    for fold in folds:
        of = {name: {groups[row] for row in rows} for name, rows in fold.items()}
        assert sum(map(len, of.values())) == len(set(groups))  # none is in two
        assert 20 <= len(fold["test"]) <= 28


def test_rows_that_are_for_testing_are_in_no_fold() -> None:
    words = ["train", "val", "test", "train"] * 10
    folds = all_folds(numbered(40, s=words), {"folds": 3, "column": "s"}, None)
    tested = np.concatenate([fold["test"] for fold in folds])
    assert sorted(tested.tolist()) == [row for row in range(40) if words[row] != "test"]
    parts = {"train": numbered(20), "test": numbered(5), "validation": numbered(9)}
    of_tables = all_folds(parts, {"folds": 3}, None)
    assert sorted(np.concatenate([fold["test"] for fold in of_tables])) == [*range(20), *range(25, 34)]


def test_more_folds_than_rows_or_groups_are_refused() -> None:
    with pytest.raises(TableError, match="5 folds need as many rows at least, found 3"):
        split_rows(numbered(3), {**FOLDS, "fold": 1}, None, 0)
    with pytest.raises(TableError, match="5 splits need as many groups at least, found 2"):
        split_rows(numbered(8, who=[0, 1] * 4), {**FOLDS, "fold": 1, "by": "who"}, None, 0)
