"""Training on files that are kept as they are gives the weights that arrays give, to the last bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from small import make_folder

import mmreg
from mmreg.data.cache import cache_dir
from mmreg.data.upkeep import inventory
from mmreg.errors import RecipeError
from mmreg.recipe.recipe import read_recipe
from mmreg.recipe.resolve import resolve

ENCODED = ["modalities.image.store=encoded", "modalities.audio.store=encoded"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MMREG_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "data").mkdir()
    return make_folder(tmp_path / "data")


def train(folder: Path, name: str, overrides: list[str]) -> Any:
    recipe = read_recipe(folder / "recipe.yaml", [*overrides, "training.deterministic=true"])
    return mmreg.train(recipe, folder / name, device="cpu")


def test_weights_and_figures_are_the_same(folder: Path) -> None:
    (folder / "images/7.png").write_bytes(b"no picture")
    bad = ["on_bad=absent"]
    decoded = train(folder, "decoded", bad)
    encoded = train(folder, "encoded", [*bad, *ENCODED])
    kept = {(entry.input, entry.store) for entry in inventory(cache_dir())}
    assert {("image", "encoded"), ("audio", "encoded"), ("title", "decoded")} < kept
    weights = encoded.model.state_dict()
    for name, tensor in decoded.model.state_dict().items():
        assert torch.equal(tensor, weights[name]), name
    for name, modality in decoded.modalities.items():
        assert modality.state() == encoded.modalities[name].state()
    assert encoded.report["test"] == decoded.report["test"]
    again = mmreg.load(folder / "encoded")
    assert again.plan.inputs["image"].store == "encoded"
    assert again.evaluate()["metrics"] == decoded.evaluate()["metrics"]
    cells = [{"image": str(folder / "images/3.png"), "audio": str(folder / "sounds/3.wav")}]
    assert again.predict(cells) == decoded.predict(cells)


def test_a_modality_that_takes_no_bytes_is_refused_by_the_recipe(folder: Path) -> None:
    with pytest.raises(RecipeError, match=r"title\.store: this modality takes no files' bytes, so its arrays are kept"):
        resolve(read_recipe(folder / "recipe.yaml", ["modalities.title.store=encoded"]))
