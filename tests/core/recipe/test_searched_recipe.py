"""Recipes with values left open: what is found open, what it becomes as it is filled in, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import mmreg
from mmreg.errors import OptionError, RecipeError
from mmreg.recipe.ranges import Range
from mmreg.recipe.search import Choice

LR = {"search": "log", "low": 1e-4, "high": 1e-2}
RANK = {"search": "int", "low": 2, "high": 16}


def keys(**changes: Any) -> dict[str, Any]:
    """A recipe of two texts, some keys changed."""
    modalities = {"title": {"type": "text"}, "body": {"type": "text"}}
    return {"table": "table.csv", "target": {"column": "label"}, "modalities": modalities, **changes}


def searched(**changes: Any) -> mmreg.SearchedRecipe:
    return mmreg.SearchedRecipe(keys(**changes))


def test_open_values_are_found_by_key_those_within_a_choice_by_what_it_chose() -> None:
    fusions = ["concat", {"name": "low_rank", "rank": RANK}, {"name": "low_rank", "rank": 3}]
    recipe = searched(fusion={"choice": fusions}, training={"optimizer": {"name": "AdamW", "lr": LR}})
    assert list(recipe.ranges) == ["fusion", "fusion(low_rank).rank", "training.optimizer.lr"]
    assert recipe.choices == ["fusion"]
    fusion, rank = recipe.ranges["fusion"], recipe.ranges["fusion(low_rank).rank"]
    assert isinstance(fusion, Choice)
    assert list(fusion.values) == ["concat", "low_rank", "low_rank(rank=3)"]
    assert isinstance(rank, Range)
    assert rank.ends == (2, 16)


def test_filled_in_it_is_an_ordinary_recipe_and_what_is_not_chosen_is_not_asked_for() -> None:
    recipe = searched(fusion={"choice": ["concat", {"name": "low_rank", "rank": RANK}]}, training={"epochs": RANK})
    asked: list[str] = []

    def pick(key: str, what: Range | Choice) -> Any:
        asked.append(key)
        return {"fusion": "concat", "training.epochs": 5}[key]

    filled = recipe.at(pick)
    assert isinstance(filled, mmreg.Recipe)
    assert asked == ["fusion", "training.epochs"]
    assert (filled.data["fusion"], filled.data["training"]) == ("concat", {"epochs": 5})
    assert recipe.data["training"] == {"epochs": RANK}  # which is as it was


def test_values_of_any_kind_may_be_chosen_from() -> None:
    values = [None, True, 3, 0.5, [1, 2], {"a": 1}, {"name": "x", "of": ["p", {"name": "y"}]}]
    choice = searched(training={"balance": {"choice": values}}).ranges["training.balance"]
    assert isinstance(choice, Choice)
    assert list(choice.values.values()) == values
    assert list(choice.values) == ["null", "true", "3", "0.5", "[1, 2]", "{a: 1}", "x(of=[p, {name: y}])"]


def test_corners_are_the_ends_of_ranges_and_every_choice() -> None:
    recipe = searched(fusion={"choice": ["concat", {"name": "low_rank", "rank": RANK}]}, training={"epochs": RANK})
    corners = {told: (made().data["fusion"], made().data["training"]["epochs"]) for told, made in recipe.corners()}
    assert corners == {
        "": ("concat", 2),
        "fusion: low_rank": ({"name": "low_rank", "rank": 2}, 2),
        "training.epochs: 16": ("concat", 16),
        "fusion(low_rank).rank: 16": ({"name": "low_rank", "rank": 16}, 2),
    }


def test_the_ends_of_a_range_that_is_not_of_whole_numbers_are_none() -> None:
    within = searched(training={"gradient_clip": {"search": "uniform", "low": 1, "high": 3}}).ranges
    assert isinstance(what := within["training.gradient_clip"], Range)
    assert what.ends == (1.0, 3.0)
    assert all(type(end) is float for end in what.ends)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ({"search": "log", "low": 0, "high": 1}, "numbers above 0, found low: 0"),
        ({"search": "uniform", "low": 2, "high": 1}, "low must be less than high, found 2 and 1"),
        ({"search": "int", "low": 1, "high": 2.5}, "needs whole numbers"),
        ({"search": "log", "low": 1, "high": 2, "step": 1}, "step goes with numbers that are drawn evenly"),
        ({"search": "uniform", "low": 1, "high": 2, "log": True}, "say search: log"),
        ({"search": "lgo", "low": 1, "high": 2}, "log"),
        ({"search": "log", "low": 1}, "high: is missing"),
        ({"search": "log", "low": 1, "high": 2, "hihg": 2}, "hihg"),
        ({"search": "int", "low": 1, "high": 2, "step": 9}, "from 2 to a million numbers"),
        ({"search": "uniform", "low": 1, "high": 2, "step": 1e-300}, "from 2 to a million numbers"),
        ({"choice": [1, 2], "search": "int", "low": 1, "high": 2}, "a choice stands alone"),
        ({"choice": [1]}, "two different values at least; found 1"),
        ({"choice": [1, 2, 1]}, "1 stands there twice"),
    ],
)
def test_what_is_no_range_is_told_by_its_key(value: Any, told: str) -> None:
    with pytest.raises(RecipeError, match=r"training\.epochs") as caught:
        searched(training={"epochs": value})
    assert told in str(caught.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"target": {"column": {"choice": ["a", "b"]}}},
        {"targets": {"one": {"task": {"choice": ["classification", "regression"]}}}},
        {"split": {"choice": ["a", "b"]}},
        {"training": {"seed": {"search": "int", "low": 0, "high": 9}}},
        {"training": {"metric": {"choice": ["f1", "accuracy"]}}},
        {"training": {"choice": [{"epochs": 1}, {"epochs": 2}]}},
        {"modalities": {"title": {"type": "text", "on_bad": {"choice": ["skip", "absent"]}}}},
    ],
)
def test_what_would_make_trials_incomparable_cannot_be_searched(changes: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match="is the same for all trials"):
        searched(**changes)


def test_options_of_the_target_can_be() -> None:
    recipe = searched(target={"column": "label", "label_smoothing": {"search": "uniform", "low": 0, "high": 0.2}})
    assert list(recipe.ranges) == ["target.label_smoothing"]


def test_a_recipe_that_leaves_nothing_open_says_how_to(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("table: table.csv\nmodalities: {choice: {type: text}}\n")
    with pytest.raises(OptionError, match=r"recipe\.yaml leaves nothing open .*search: log"):
        mmreg.SearchedRecipe.read(tmp_path / "recipe.yaml")


def test_keys_are_changed_as_for_a_training(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("table: table.csv\ntraining:\n  epochs: 3\n")
    given = mmreg.SearchedRecipe.read(
        tmp_path / "recipe.yaml", ["training.epochs={search: int, low: 1, high: 3}", "training.optimizer=SGD"]
    )
    assert list(given.ranges) == ["training.epochs"]
    again = mmreg.SearchedRecipe.read(given, ["training.epochs={search: int, low: 5, high: 6}"])
    assert isinstance(epochs := again.ranges["training.epochs"], Range)
    assert epochs.ends == (5, 6)
    assert given.data["training"]["epochs"]["low"] == 1


def test_a_problem_names_the_line_of_the_range(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("table: table.csv\ntraining:\n  epochs: {search: int, low: 3, high: 2}\n")
    with pytest.raises(RecipeError, match=r"line 3, training\.epochs: .*low must be less than high"):
        mmreg.SearchedRecipe.read(tmp_path / "recipe.yaml")


def test_an_ordinary_recipe_says_what_values_left_open_are_for() -> None:
    with pytest.raises(RecipeError, match=r"training\.epochs: is left open.*\n.*") as caught:
        mmreg.Recipe(keys(training={"epochs": RANK, "gradient_clip": LR}))
    assert [problem.partition(":")[0] for problem in caught.value.problems] == [
        "training.epochs",
        "training.gradient_clip",
    ]
    assert "mmreg tune recipe" in str(caught.value)


def test_inputs_may_be_called_like_what_leaves_a_value_open() -> None:
    recipe = mmreg.Recipe(keys(modalities={"choice": {"type": "text"}, "search": {"type": "text"}}))
    assert list(recipe.form.modalities) == ["choice", "search"]


def test_yaml_of_a_recipe_can_be_written_anywhere(tmp_path: Path) -> None:
    recipe = mmreg.Recipe(keys(training={"epochs": 3}), folder=tmp_path)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "recipe.yaml").write_text(recipe.to_yaml())
    from mmreg.recipe.recipe import read_recipe

    again = read_recipe(tmp_path / "elsewhere" / "recipe.yaml")
    assert again.data == {**keys(training={"epochs": 3}), "table": str(tmp_path / "table.csv")}
