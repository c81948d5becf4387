"""The page about security names what there is: make targets, files, options and kinds of input."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from small import call

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")


def test_it_is_in_the_navigation_and_on_the_first_page() -> None:
    assert "security.md" in (ROOT / ".ci" / "mkdocs.yml").read_text()
    assert "security.md" in (ROOT / "docs" / "index.md").read_text()


def test_the_targets_that_it_names_are_there() -> None:
    targets = set(re.findall(r"`make (\w+)`", PAGE))
    assert targets == {"fuzz", "test", "audit"}
    makefile = (ROOT / "Makefile").read_text()
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)


def test_the_files_that_it_names_are_there() -> None:
    names = re.findall(r"`((?:tests|\.ci)/[^`]+)`", PAGE)
    assert len(names) == 2
    assert all((ROOT / name).is_file() for name in names)


def test_the_limits_that_it_names_are_those_of_the_harness() -> None:
    from fuzzing.cases import BYTES, SECONDS

    assert f"{BYTES >> 30} GB of memory and {SECONDS} seconds" in re.sub(r"\s+", " ", PAGE)


def test_the_kinds_of_input_that_it_names_are_those_of_the_harness() -> None:
    from fuzzing.kinds import KINDS

    kinds = {kind.name.partition("-")[0] for kind in KINDS}
    words = {"image": "pictures", "cache": "of the cache", "checkpoint": "stopped training", "vectors": "word vectors"}
    assert kinds >= set(words)
    covers = re.sub(r"\s+", " ", PAGE).partition("It covers ")[2].partition(". ")[0]
    assert all(words.get(kind, kind) in covers for kind in kinds), covers


def test_a_recipe_that_asks_for_an_object_is_refused_as_the_page_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"table: !!python/object/apply:os.mkdir ['{tmp_path}/made']\n", encoding="utf-8")
    done = call(monkeypatch, capsys, "validate", str(recipe))
    assert done.code == 2
    assert "is refused; a recipe holds plain data only" in done.err
    assert not (tmp_path / "made").exists()
