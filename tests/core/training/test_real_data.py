"""Recipes without options reach their figures on real pictures, sounds and texts."""

from __future__ import annotations

from pathlib import Path

import pytest

import mmreg
from mmreg.recipe.recipe import read_recipe

EXAMPLES = Path(__file__).parents[3] / "docs" / "examples"


@pytest.mark.slow
@pytest.mark.parametrize(("name", "least", "gain"), [("avmnist_small", 0.80, 0.12), ("emoji", 0.70, 0.02)])
def test_fusion_reaches_its_figure_and_beats_the_better_modality(
    name: str, least: float, gain: float, real_data: Path, tmp_path: Path
) -> None:
    recipe = read_recipe(EXAMPLES / f"{name}.yaml", [f"table={real_data / name / 'manifest.csv'}"])
    metrics = mmreg.train(recipe, tmp_path / "run", device="cpu").report["test"]["metrics"]
    assert metrics["accuracy"] >= least
    # At model level each part is the model of its modality alone: own weights, own loss, own random draws.
    assert metrics["accuracy"] >= gain + max(part["accuracy"] for part in metrics["modalities"].values())
