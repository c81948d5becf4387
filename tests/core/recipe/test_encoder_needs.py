"""What an encoder needs of its modality: asked when a training is planned, and never of a run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import toys

import mmreg
from mmreg import Asset, Recipe, registry
from mmreg.errors import OptionError, RecipeError
from mmreg.recipe.resolve import resolve


class Told(toys.Numbers):
    """Numbers that a file says something of.

    Args:
        size: how many.
        noise: the deviation of noise that training adds.
        file: it is read when they are fitted.
    """

    def __init__(self, *, size: int = 4, noise: float = 0.0, file: Asset | None = None) -> None:
        super().__init__(size=size, noise=noise)


class Needing(toys.Linear):
    """An encoder that reads what it needs.

    Args:
        folder: where it is.
    """

    def __init__(self, spec: mmreg.Spec, *, folder: str) -> None:
        super().__init__(spec)

    @classmethod
    def modality_options(cls, options: Mapping[str, Any]) -> Mapping[str, Any]:
        place = Path(options["folder"])
        if not place.is_dir():
            raise OptionError(f"folder: there is no {place.name}")
        return {"file": str(place / "file.txt"), "noise": 0.5}


@pytest.fixture(autouse=True)
def _toys() -> None:
    toys.register()
    registry.register("modality", "told", Told)
    registry.register("encoder", "needing", Needing)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "file.txt").write_text("contents")
    return tmp_path / "model"


def recipe(folder: Path, **options: Any) -> dict[str, Any]:
    needing = {"type": "told", "encoder": {"name": "needing", "folder": str(folder)}, **options}
    return toys.recipe(toys.rows(60), modalities={"a": needing, "b": {"type": "numbers"}})


def test_its_needs_become_the_modalitys_options(folder: Path) -> None:
    options = resolve(Recipe(recipe(folder))).inputs["a"].modality.options
    assert options == {"size": 4, "noise": 0.5, "file": str(folder / "file.txt")}


def test_a_recipe_that_contradicts_is_refused(folder: Path) -> None:
    with pytest.raises(RecipeError, match=r"a\.noise: must be 0\.5, as encoder 'needing' needs it, found 0\.1"):
        resolve(Recipe(recipe(folder, noise=0.1)))


def test_a_file_of_the_same_contents_is_no_contradiction(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "copy.txt").write_text("contents")
    plan = resolve(Recipe(recipe(folder, file="copy.txt"), folder=tmp_path))
    assert plan.inputs["a"].modality.options["file"] == str(tmp_path / "copy.txt")
    for other in ("others", None):
        (tmp_path / "copy.txt").unlink()
        if other is not None:
            (tmp_path / "copy.txt").write_text(other)
        with pytest.raises(RecipeError, match=r"a\.file: must be .*file\.txt', as encoder 'needing' needs it, found"):
            resolve(Recipe(recipe(folder, file="copy.txt"), folder=tmp_path))


def test_what_keeps_it_from_telling_its_needs_is_a_problem_of_the_recipe(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"a\.encoder: folder: there is no gone"):
        resolve(Recipe(recipe(tmp_path / "gone")))


def test_a_run_is_loaded_and_combined_where_it_could_not_tell_them(folder: Path, tmp_path: Path) -> None:
    mmreg.train(recipe(folder), out=tmp_path / "run")
    mmreg.train(toys.recipe(toys.rows(60)), out=tmp_path / "other")
    (folder / "file.txt").unlink()
    folder.rmdir()
    run = mmreg.load(tmp_path / "run")
    assert run.plan.inputs["a"].modality.options["noise"] == 0.5
    fused = mmreg.fuse([tmp_path / "run", tmp_path / "other"], "mean", tmp_path / "fused")
    rows = [{"a": row["a"], "b": row["b"]} for row in toys.rows(4)]
    assert mmreg.load(tmp_path / "fused").predict(rows) == fused.predict(rows)
