"""Modalities that rows are made to lack: which rows, how many, and that a training sees them as not there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import toys

import mmreg
from mmreg.data.lost import lost_at_rate
from mmreg.data.table import read_table
from mmreg.errors import RecipeError
from mmreg.experiment import lost_modalities, open_experiment
from mmreg.recipe.recipe import read_recipe
from mmreg.recipe.resolve import resolve

COLUMNS = {"a": ["a"], "b": ["b"]}


@pytest.fixture(autouse=True)
def _toys() -> None:
    toys.register()


def test_a_row_loses_what_is_drawn_below_the_rate_but_its_greatest_draw() -> None:
    draws = np.array([[0.1, 0.2, 0.9], [0.1, 0.2, 0.3], [0.6, 0.7, 0.1], [0.1, 0.05, 0.2]])
    present = np.ones((4, 3), bool)
    present[3] = True, True, False
    assert lost_at_rate(present, draws, 0.5).tolist() == [
        [True, True, False],
        [True, True, False],
        [False, False, True],
        [False, True, False],
    ]
    assert not lost_at_rate(present, draws, 0.0).any()
    assert (lost_at_rate(present, draws, 1.0).sum(1) == [2, 2, 2, 1]).all()


def test_what_is_lost_is_nested_keyed_by_name_and_never_all() -> None:
    table = read_table(toys.rows(2000, absent=0.2))
    present = np.array([[row[name] is not None for name in "ab"] for row in toys.rows(2000, absent=0.2)])
    before = np.zeros((2000, 2), bool)
    for rate in (0.3, 0.5, 0.7, 0.9):
        lost = lost_modalities(table, COLUMNS, rate, 3, "training")
        array = np.stack(list(lost.values()), 1)
        assert (array >= before).all()
        assert (array <= present).all()
        assert ((present & ~array).any(1) == present.any(1)).all()
        before = array
    alike = lost_modalities(table, dict(reversed(COLUMNS.items())), 0.9, 3, "training")
    assert all(np.array_equal(alike[name], lost[name]) for name in "ab")
    for seed, purpose in ((4, "training"), (3, "use")):
        other = lost_modalities(table, COLUMNS, 0.9, seed, purpose)
        assert not np.array_equal(other["a"], lost["a"])


@pytest.mark.parametrize(("names", "rate"), [("ab", 0.5), ("ab", 0.9), ("abc", 0.7)])
def test_the_share_that_is_lost_is_the_rate_less_what_is_kept(names: str, rate: float) -> None:
    present = np.ones((40_000, len(names)), bool)
    draws = np.random.default_rng(0).random(present.shape)
    expected = rate - rate ** len(names) / len(names)
    assert lost_at_rate(present, draws, rate).mean(0) == pytest.approx(expected, abs=0.01)


def emptied(rows: list[dict[str, Any]], rate: float, seed: int) -> list[dict[str, Any]]:
    """The rows with the cells of training and validation rows empty that are lost at a rate."""
    lost = lost_modalities(read_table(rows), COLUMNS, rate, seed, "training")
    return [
        {**row, **{name: None for name in "ab" if row["split"] != "test" and lost[name][number]}}
        for number, row in enumerate(rows)
    ]


@pytest.mark.parametrize("fusion", ["concat", "stacking"])
def test_a_training_is_as_if_the_table_lacked_them(fusion: str, tmp_path: Path) -> None:
    rows = toys.rows(150, absent=0.1)
    told = toys.train(
        tmp_path / "rate", rows, fusion=fusion, overrides=["training.missing_rate=0.6", "training.seed=2"]
    )
    bare = toys.train(tmp_path / "bare", emptied(rows, 0.6, 2), fusion=fusion, overrides=["training.seed=2"])
    toys.assert_same(tmp_path / "rate", tmp_path / "bare")
    assert told.modalities["a"].state() == bare.modalities["a"].state()
    for split in ("validation", "test"):
        assert told.report[split] == bare.report[split]
    whole = toys.train(tmp_path / "whole", rows, fusion=fusion, overrides=["training.seed=2"])
    assert told.report["test"] != whole.report["test"]


@pytest.mark.parametrize("copies", [0, 2])
def test_what_a_frozen_encoder_gave_once_is_missing_likewise(copies: int, tmp_path: Path) -> None:
    rows = toys.rows(150, absent=0.1)
    frozen: dict[str, Any] = {"type": "numbers", "encoder": {"name": "linear", "freeze": True}}
    if copies:  # of noise too small to tell them apart
        frozen |= {"noise": 1e-7, "augmented_copies": copies}
    changes = {"modalities": {"a": frozen, "b": {"type": "numbers"}}}
    told = toys.train(tmp_path / "rate", rows, **changes, overrides=["training.missing_rate=0.6"])
    assert any("a: encoded once" in note for note in told.report["notes"])
    toys.train(tmp_path / "bare", emptied(rows, 0.6, 0), **changes)
    epochs = [(tmp_path / name / "metrics.csv").read_text().splitlines()[1:] for name in ("rate", "bare")]
    first, second = ([[float(cell or "nan") for cell in row.split(",")] for row in table] for table in epochs)
    np.testing.assert_allclose(first, second, rtol=1e-4)


def test_one_modality_alone_learns_from_the_rows_that_have_it_beside_all(tmp_path: Path) -> None:
    rows = toys.rows(150, absent=0.1)
    missing = {"rate": 0.6, "among": COLUMNS}
    training = {**toys.recipe(None)["training"], "missing_rate": missing, "seed": 2}
    single = {"modalities": {"a": {"type": "numbers"}}, "fusion": None}
    toys.train(tmp_path / "rate", rows, **single, training=training)
    lost = lost_modalities(read_table(rows), COLUMNS, 0.6, 2, "training")["a"]
    having = [row for row, gone in zip(rows, lost, strict=True) if not gone or row["split"] == "test"]
    toys.train(tmp_path / "bare", having, **single, training={**training, "missing_rate": 0})
    toys.assert_same(tmp_path / "rate", tmp_path / "bare")


def test_a_run_says_what_was_taken_and_is_measured_and_gone_on_with(tmp_path: Path) -> None:
    rows = toys.rows(150)
    settings: dict[str, Any] = {"table": rows, "overrides": ["training.missing_rate=0.6"]}
    toys.train(tmp_path / "whole", **settings)
    toys.stopped_at(tmp_path / "run", 7, **settings)
    run = toys.train(tmp_path / "run", resume=True, **settings)
    toys.assert_same(tmp_path / "run", tmp_path / "whole")
    lost = lost_modalities(read_table(rows), COLUMNS, 0.6, 0, "training")
    counts = {name: sum(mask[:120]) for name, mask in lost.items()}
    expected = (
        f"training.missing_rate takes a from {counts['a']}, b from {counts['b']} of 120 training and validation rows"
    )
    assert expected in run.report["notes"]
    assert run.evaluate(rows, split="test") == run.report["test"]


def test_test_rows_keep_all_and_no_split_loses_a_row() -> None:
    rows = toys.rows(150)
    plans = [resolve(read_recipe(toys.recipe(rows), [f"training.missing_rate={rate}"])) for rate in (0, 0.8)]
    whole, lost = map(open_experiment, plans)
    assert whole.lost == {}
    assert all(not mask[lost.splits["test"]].any() for mask in lost.lost.values())
    assert all(np.array_equal(whole.splits[split], lost.splits[split]) for split in whole.splits)


def test_a_vocabulary_is_learned_from_what_is_left() -> None:
    rows = [{**row, "a": f"word{n}", "b": f"other{n}"} for n, row in enumerate(toys.rows(60))]
    text = {"type": "text", "min_frequency": 1, "encoder": {"name": "text_rnn", "hidden_size": 2, "embedding_size": 2}}
    changes = {"modalities": {"a": text, "b": text}}
    tables = {"whole": rows, "bare": emptied(rows, 0.6, 0)}
    bare, whole = (open_experiment(resolve(read_recipe(toys.recipe(tables[n], **changes)))) for n in ("bare", "whole"))
    recipe = read_recipe(toys.recipe(rows, **changes), ["training.missing_rate=0.6"])
    lost = open_experiment(resolve(recipe))
    for name in "ab":
        assert lost.modalities[name].state() == bare.modalities[name].state()
        assert lost.modalities[name].state() != whole.modalities[name].state()


@pytest.mark.parametrize(
    ("rate", "told"),
    [
        ("1.0", "missing_rate"),
        ("{rate: 0.5, among: {a: [a]}}", "lacks b, which the recipe has"),
        ("{rate: 0.5, among: {a: [a], b: [b], c: [see]}}", "no column 'see'"),
        ("{among: {a: [a], b: [b]}}", "rate"),
    ],
)
def test_what_has_no_meaning_is_refused(rate: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=told):
        mmreg.train(toys.recipe(toys.rows(60)), tmp_path, overrides=[f"training.missing_rate={rate}"], device="cpu")
