"""The generated reference pages are those of today's code."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"


@pytest.mark.parametrize("name", ["recipe.md", "components.md", "commands.md"])
def test_a_generated_page_is_up_to_date(name: str) -> None:
    pages = runpy.run_path(str(REFERENCE / "generate.py"))["PAGES"]
    assert pages[name]() == (REFERENCE / name).read_text(encoding="utf-8"), "run: python docs/reference/generate.py"


def test_the_recipe_that_the_page_shows_is_right() -> None:
    from mmreg.recipe.recipe import read_recipe
    from mmreg.recipe.resolve import resolve

    assert list(resolve(read_recipe(REFERENCE / "recipe.yaml")).inputs) == ["image", "title", "audio"]
