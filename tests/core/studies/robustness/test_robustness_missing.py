"""Which modalities are left out, and that leaving out is the same as not having."""

from __future__ import annotations

from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import toys

import mmreg
from mmreg.errors import OptionError
from mmreg.studies.robustness import evaluate_robustness
from mmreg.studies.robustness.missing import at_rate, subsets


@pytest.fixture(autouse=True)
def _toys() -> None:
    toys.register()


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_up_to_five_modalities_every_subset_is_measured(count: int) -> None:
    names = list("zyxwv"[:count])
    found = subsets(names)
    assert len(found) == len(set(found)) == 2**count - 1
    assert all(list(subset) == [name for name in names if name in subset] for subset in found)
    assert [len(subset) for subset in found] == sorted(len(subset) for subset in found)


@pytest.mark.parametrize("count", [6, 9, 15, 20])
def test_past_five_a_cover_is_measured(count: int) -> None:
    names = [f"m{index}" for index in range(count)]
    found = subsets(names, seed=3)
    fixed = {subset for size in (1, count - 1, count) for subset in combinations(names, size)}
    assert fixed <= set(found)
    assert len(found) == len(set(found)) == max(32, 2 * count + 1)
    assert found == subsets(names, seed=3)
    if count <= 15 and len(found) > len(fixed):
        assert found != subsets(names, seed=4)


def test_missing_at_random_is_nested_independent_and_as_frequent_as_asked() -> None:
    rows = 20_000
    rates = (0.0, 0.1, 0.3, 0.5, 1.0)
    masks = {rate: at_rate(["a", "b"], rate, rows, seed=1) for rate in rates}
    for low, high in pairwise(rates):
        assert all((masks[low][name] <= masks[high][name]).all() for name in "ab")
    for rate in rates:
        for name in "ab":
            assert masks[rate][name].mean() == pytest.approx(rate, abs=0.015)
        both = masks[rate]["a"] & masks[rate]["b"]
        assert both.mean() == pytest.approx(rate**2, abs=0.015)
    assert (at_rate(["b"], 0.3, rows, seed=1)["b"] == masks[0.3]["b"]).all()
    assert (at_rate(["b"], 0.3, rows, seed=2)["b"] != masks[0.3]["b"]).any()


def emptied(table: list[dict[str, Any]], masks: dict[str, Any]) -> list[dict[str, Any]]:
    """The table with cells emptied by hand."""
    changed = [dict(row) for row in table]
    for name, mask in masks.items():
        for row, empty in zip(changed, mask, strict=True):
            row[name] = None if empty else row[name]
    return changed


def without_split(figures: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in figures.items() if key != "split"}


@pytest.mark.parametrize("fusion", ["concat", "transformer", "product", "stacking"])
def test_what_is_left_out_is_as_if_it_had_never_been_there(tmp_path: Path, fusion: str) -> None:
    table = toys.rows(120, absent=0.2)
    recipe = toys.recipe(table, fusion=fusion)
    run = mmreg.train(recipe, tmp_path / "run", device="cpu", overrides=["training.epochs=2"])
    unseen = toys.rows(60, seed=4, absent=0.2)
    found = evaluate_robustness(run, unseen, missing=True, rates=[0.3, 0.0], metrics=["log_loss"], seed=5)
    assert found["split"] == "all"
    assert found["rows"] == 60
    assert found["possible_subsets"] == 3
    assert [subset["modalities"] for subset in found["subsets"]] == [["a"], ["b"], ["a", "b"]]
    for subset in found["subsets"]:
        names = subset.pop("modalities")
        by_hand = emptied(unseen, {name: np.full(60, name not in names) for name in "ab"})
        assert subset == without_split(run.evaluate(by_hand, metrics=["log_loss"]))
        without = sum(all(row[name] is None for name in names) for row in unseen)
        assert subset.get("rows_without_any_modality", 0) == without
    assert [point["rate"] for point in found["rates"]] == [0.0, 0.3]
    for point in found["rates"]:
        by_hand = emptied(unseen, at_rate(["a", "b"], point.pop("rate"), 60, seed=5))
        assert point == without_split(run.evaluate(by_hand, metrics=["log_loss"]))


def test_a_subset_has_the_keys_that_were_promised(tmp_path: Path) -> None:
    run = mmreg.train(toys.recipe(toys.rows(60)), tmp_path / "run", device="cpu", overrides=["training.epochs=1"])
    found = evaluate_robustness(run, missing=True)
    assert found["split"] == "test"
    assert all(set(subset) == {"modalities", "rows", "metrics"} for subset in found["subsets"])
    assert all(subset["rows"] == 12 for subset in found["subsets"])


def test_a_rate_that_is_no_share_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    run = mmreg.train(toys.recipe(toys.rows(60)), tmp_path / "run", device="cpu", overrides=["training.epochs=1"])
    with pytest.raises(OptionError, match=r"from 0 to 1, found 1\.5"):
        evaluate_robustness(run, tmp_path / "no.csv", rates=[0.0, 1.5])
