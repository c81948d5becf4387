"""The generated reference pages are those of today's code."""

from __future__ import annotations

import inspect
import re
import runpy
from pathlib import Path

import pytest

from mmreg import registry

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"


GENERATE = runpy.run_path(str(REFERENCE / "generate.py"))


@pytest.mark.parametrize("name", GENERATE["PAGES"])
def test_a_generated_page_is_up_to_date(name: str) -> None:
    page = GENERATE["PAGES"][name]()
    assert page == (REFERENCE / name).read_text(encoding="utf-8"), "run: python docs/reference/generate.py"


DOCSTRING = """What it does.

And how.

Args:
    name: the name,
        such as "x".
    a, b: numbers.

Returns:
    A number.

Example:
    >>> 1 + 1
    2
"""


def test_a_docstring_becomes_lists_and_code() -> None:
    assert list(GENERATE["_markdown"](DOCSTRING)) == [
        *("What it does.\n\nAnd how.", ""),
        *("Arguments:", "", '- `name`: the name, such as "x".', "- `a`, `b`: numbers.", ""),
        *("Returns:", "", "A number.", ""),
        *("Example:", "", "```pycon", ">>> 1 + 1\n2", "```", ""),
    ]


def test_the_page_of_the_registry_has_its_functions_and_the_exit_codes_of_errors() -> None:
    text = (REFERENCE / "registry.md").read_text(encoding="utf-8")
    functions = {name for name in registry.__all__ if inspect.isfunction(getattr(registry, name))}
    assert functions <= set(re.findall(r"^## (\w+)\n\n```python\nregistry\.\1\(", text, re.MULTILINE))
    assert "| `TrainingError` | `RuntimeError` | 1 |" in text
    assert "| `RecipeError` | `ValueError` | 2 |" in text


def test_the_recipe_that_the_page_shows_is_right() -> None:
    from mmreg.recipe.recipe import read_recipe
    from mmreg.recipe.resolve import resolve

    assert list(resolve(read_recipe(REFERENCE / "recipe.yaml")).inputs) == ["image", "title", "audio"]
