"""`mmreg.validate`: a recipe checked with its table, and one with values left open at its corners; and no test rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mmreg
from mmreg.errors import RecipeError, TableError
from mmreg.runs import is_run

RANDOM = np.random.default_rng(0)
TABLE = {
    "a": RANDOM.normal(size=60).tolist(),
    "b": RANDOM.normal(size=60).tolist(),
    "label": ["x", "y"] * 30,
    "split": ["train"] * 30 + ["validation"] * 20 + ["test"] * 10,
}


def keys(encoder: Any = "tabular_mlp", **training: Any) -> dict[str, Any]:
    columns = {"type": "tabular", "columns": ["a", "b"], "encoder": encoder}
    return {
        "table": TABLE,
        "split": "split",
        "target": {"column": "label"},
        "modalities": {"numbers": columns},
        "training": {"epochs": 1, **training},
    }


def searched(*arguments: Any, **training: Any) -> mmreg.SearchedRecipe:
    return mmreg.SearchedRecipe(keys(*arguments, **training))


def test_it_says_what_a_training_would_be() -> None:
    facts = mmreg.validate(keys(), ["training.epochs=7"], device="cpu")
    assert facts["rows"] == {"train": 30, "validation": 20, "test": 10}
    assert (facts["metric"], facts["more_is_better"], facts["epochs"]) == ("accuracy", True, 7)
    assert facts["recipe"]["training"]["optimizer"]["name"] == "mmreg:AdamW"
    assert not mmreg.validate(keys(metric="log_loss"), device="cpu")["more_is_better"]


def test_of_a_searched_recipe_the_most_epochs_are_told() -> None:
    facts = mmreg.validate(searched(epochs={"search": "int", "low": 2, "high": 9}), device="cpu")
    assert facts["epochs"] == 9


@pytest.mark.parametrize(
    ("recipe", "told"),
    [
        (lambda: searched(optimizer={"name": "AdamW", "lr": {"search": "uniform", "low": -1, "high": 1}}), "-1"),
        (lambda: searched(epochs={"search": "uniform", "low": 1, "high": 4}), "4.0"),
        (lambda: searched(gradient_clip={"search": "uniform", "low": -0.5, "high": 1}), "-0.5"),
        (lambda: searched(optimizer={"choice": ["SGD", "AdmaW"]}), "AdamW"),
        (lambda: searched({"choice": ["tabular_mlp", "image_cnn"]}), "image_cnn"),
        (lambda: searched({"name": "tabular_mlp", "dropout": {"search": "uniform", "low": 0, "high": 1.5}}), "1.5"),
        (
            lambda: searched({"choice": ["tabm", {"name": "tabular_mlp", "dropout": {"choice": [0.1, 2.5]}}]}),
            "2.5 (where modalities.numbers.encoder(tabular_mlp).dropout: 2.5)",
        ),
    ],
)
def test_each_end_and_choice_is_checked_against_what_it_is_for(recipe: Any, told: str) -> None:
    with pytest.raises(RecipeError) as caught:
        mmreg.validate(recipe(), device="cpu")
    assert told in caught.value.problems[-1]


def test_a_problem_of_another_key_says_which_choice_leads_to_it() -> None:
    encoder = {"name": "tabular_mlp", "dropout": {"choice": [0.1, 0.2]}}
    data = {**keys(encoder), "fusion": "product", "training": {"balance": {"choice": [None, "ogm_ge"]}}}
    data["modalities"] = {"one": data["modalities"]["numbers"], "two": data["modalities"]["numbers"]}
    with pytest.raises(RecipeError) as caught:
        mmreg.validate(mmreg.SearchedRecipe(data), device="cpu")
    assert len(caught.value.problems) == 1
    assert "balance" in caught.value.problems[0]


def test_what_is_wrong_with_the_table_is_told_as_for_any_recipe(tmp_path: Path) -> None:
    recipe = {**keys(epochs={"search": "int", "low": 2, "high": 9}), "table": str(tmp_path / "none.csv")}
    with pytest.raises(TableError, match=r"none\.csv"):
        mmreg.validate(mmreg.SearchedRecipe(recipe), device="cpu")


def test_a_training_can_leave_the_test_rows_alone(tmp_path: Path) -> None:
    measured: list[str] = []

    class Follower(mmreg.Callback):
        def on_evaluation(self, run: Any, split: str, result: Any) -> None:
            measured.append(split)

    run = mmreg.train(keys(), tmp_path / "run", device="cpu", callback=Follower(), test=False)
    assert measured == ["validation"]
    assert "test" not in run.report
    assert is_run(tmp_path / "run")
    assert not list((tmp_path / "run" / "predictions").glob("*test*"))
    assert run.evaluate(TABLE, split="test")["rows"] == 10  # whoever wants to, can
