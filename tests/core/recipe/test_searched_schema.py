"""The JSON schema of recipes for `mmreg tune`: ranges and choices where they may stand, and nowhere else."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest

import mmreg
from mmreg.errors import OptionError, RecipeError
from mmreg.recipe.schema import recipe_schema
from mmreg.recipe.yaml import read_yaml

jsonschema = pytest.importorskip("jsonschema")
DOCS = Path(__file__).parents[3] / "docs"
RECIPES = [
    *(path.read_text() for path in sorted(DOCS.glob("examples/**/*.yaml")) if "modalities:" in path.read_text()),
    *(
        text
        for page in sorted(DOCS.glob("**/*.md"))
        for text in re.findall(
            r"^<!-- recipe: \S+ -->\n```yaml\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL
        )
    ),
]
SEARCH = read_yaml(next(text for text in RECIPES if "search: uniform" in text), "recipe")[0]
RATE = {"search": "log", "low": 1e-4, "high": 1e-2}


@pytest.fixture(scope="module")
def searched() -> Any:
    return _validator(recipe_schema(searched=True))


@pytest.fixture(scope="module")
def plain() -> Any:
    return _validator(recipe_schema())


def _validator(schema: dict[str, Any]) -> Any:
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(json.loads(json.dumps(schema)))


def test_the_documentations_recipes_are_right_and_open_ones_for_a_search_alone(searched: Any, plain: Any) -> None:
    assert len(RECIPES) > 5
    for text in RECIPES:
        recipe = read_yaml(text, "recipe")[0]
        assert list(searched.iter_errors(recipe)) == []
        assert plain.is_valid(recipe) == ("search:" not in text), text


def changed(key: str, value: Any) -> dict[str, Any]:
    """The documentation's recipe of a search with one key, given by its dots, of another value."""
    recipe = copy.deepcopy(SEARCH)
    *path, last = key.split(".")
    inner = recipe
    for step in path:
        inner = inner.setdefault(step, {})
    inner[last] = value
    return recipe


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("training.optimizer", {"choice": [{"name": "AdamW", "lr": RATE}, {"name": "SGD", "lr": 0.1}]}),
        ("training.optimizer", {"name": "AdamW", "betas": [{"search": "uniform", "low": 0.5, "high": 0.9}, 0.99]}),
        ("training.epochs", {"search": "int", "low": 2, "high": 8, "step": 2}),
        ("training.batch_size", {"choice": ["auto", {"search": "int", "low": 8, "high": 64, "log": True}]}),
        ("training.balance", {"choice": [None, "ogm_ge"]}),
        ("training.schedule", {"choice": [None, "cosine", {"name": "linear"}]}),
        ("modalities.image.size", {"choice": [8, 16]}),
        ("modalities.hint.encoder.name", {"choice": ["text_bag", "text_rnn"]}),
        ("modalities.hint", {"choice": [{"type": "text"}, {"type": "text", "encoder": "text_bag"}]}),
        ("target.class_weights", {"choice": ["balanced", None]}),
        ("fusion", {"choice": ["concat", {"choice": ["low_rank", {"name": "low_rank", "rank": 3}]}]}),
        (
            "fusion",
            {"name": "mean", "of": [{"name": "concat", "of": ["image"], "hidden": {"choice": [[], [8]]}}, "hint"]},
        ),
    ],
)
def test_what_a_search_may_leave_open_is_right(searched: Any, key: str, value: Any) -> None:
    recipe = changed(key, value)
    mmreg.SearchedRecipe(recipe)
    assert list(searched.iter_errors(recipe)) == []


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("split", {"choice": ["split", "other"]}),
        ("metrics", [{"choice": ["f1", "auroc"]}]),
        ("missing", {"choice": [["NA"], ["-"]]}),
        ("target", {"choice": [{"column": "digit"}, {"column": "other"}]}),
        ("target.column", {"choice": ["digit", "other"]}),
        ("target.weight", {"search": "log", "low": 0.1, "high": 1}),
        ("training", {"choice": [{"epochs": 2}, {"epochs": 3}]}),
        ("training.seed", {"search": "int", "low": 0, "high": 9}),
        ("modalities.image.on_bad", {"choice": ["absent", "skip"]}),
        ("training.optimizer.lr", {"search": "log", "low": 1e-4}),
        ("training.optimizer.lr", {"search": "log", "low": 1e-4, "high": 1e-2, "hihg": 1}),
        ("training.optimizer.lr", {"choice": [0.1]}),
        ("training.optimizer.lr", {"choice": [0.1, 0.1]}),
    ],
)
def test_what_a_search_refuses_is_wrong(searched: Any, key: str, value: Any) -> None:
    recipe = changed(key, value)
    with pytest.raises((RecipeError, OptionError)):
        mmreg.SearchedRecipe(recipe)
    assert not searched.is_valid(recipe)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("training.optimizer.lr", {"search": "log", "low": -1e-4, "high": 1e-2}),  # beyond the option's bounds
        ("training.optimizer.lr", {"choice": [0.1, 0.2], "low": 1}),
        ("training.epochs", {"search": "uniform", "low": 2, "high": 8}),  # epochs are whole
        ("modalities.hint.encoder", {"choice": ["text_bag", "text_rn"]}),
        ("fusion", {"choice": ["concat", {"name": "low_rank", "rank": {"choice": [0, 1]}}]}),
        ("fusion", {"search": "log", "low": 1, "high": 2}),
    ],
)
def test_what_no_option_may_be_is_wrong_within_a_range_or_choice(searched: Any, key: str, value: Any) -> None:
    assert not searched.is_valid(changed(key, value))
