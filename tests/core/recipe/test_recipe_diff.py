"""Where two recipes differ."""

from __future__ import annotations

from typing import Any

import pytest
import toys

from mmreg.recipe.diff import comparable, recipe_differences
from mmreg.recipe.recipe import Recipe
from mmreg.recipe.resolve import resolve


@pytest.fixture(autouse=True)
def _toys() -> None:
    toys.register()


def recipe(**changes: Any) -> dict[str, Any]:
    changed = Recipe(toys.recipe("table.csv")).replace(
        {key.replace("__", "."): value for key, value in changes.items()}
    )
    return comparable(resolve(changed))


def test_a_recipe_does_not_differ_from_itself_nor_from_its_spelled_out_defaults() -> None:
    assert recipe_differences(recipe(), recipe()) == []
    spelled_out = resolve(Recipe(resolve(Recipe(toys.recipe("table.csv"))).to_data()))
    assert recipe_differences(recipe(), comparable(spelled_out)) == []


def test_each_key_that_differs_is_told_with_what_stands_in_either_recipe() -> None:
    now = recipe(training__epochs=9, training__optimizer={"name": "Adam", "lr": 0.5}, split={"test": 0.5})
    assert recipe_differences(recipe(), now) == [
        ("split", "split", now["split"]),
        ("training.epochs", 3, 9),
        ("training.optimizer.lr", 0.01, 0.5),
    ]


def test_what_stands_in_one_of_them_only_is_none_in_the_other() -> None:
    more = recipe(modalities__a={"type": "numbers", "noise": 0.1}, fusion={"name": "concat", "hidden": [8]})
    fewer = recipe(modalities={"b": {"type": "numbers"}}, fusion=None)
    assert recipe_differences(recipe(), more) == [
        ("modalities.a.noise", 0.0, 0.1),
        ("fusion.hidden", (), (8,)),
    ]
    told = {key: (old, new) for key, old, new in recipe_differences(more, fewer)}
    assert told == {"modalities.a": (more["modalities"]["a"], None), "fusion": (more["fusion"], None)}


def test_the_place_of_the_table_and_who_follows_is_no_difference() -> None:
    assert recipe_differences(recipe(), recipe(table="elsewhere/table.csv")) == []
    assert recipe_differences(recipe(), recipe(table={"train": "a.csv", "test": "b.csv"}, split=None)) == [
        ("split", "split", None)
    ]
