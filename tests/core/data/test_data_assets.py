"""A modality's assets belong to the cache's key by their contents, wherever they lie."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import toys
from numpy.typing import NDArray

import mmreg
from mmreg import Asset, registry

LOADED: list[Any] = []


class Scaled(toys.Numbers):
    """Numbers times a factor from a file.

    Args:
        factor: the file.
    """

    transform_options = frozenset()

    def __init__(self, *, factor: Asset) -> None:
        super().__init__()
        self.factor = json.loads(Path(factor).read_text())

    def load(self, value: Any) -> NDArray[Any]:
        LOADED.append(value)
        return super().load(value) * self.factor


@pytest.fixture(autouse=True)
def _registered() -> None:
    LOADED.clear()
    toys.register()
    registry.register("modality", "scaled", Scaled)


def train(folder: Path, factor: Path) -> mmreg.Run:
    recipe = toys.recipe(
        str(folder.parent / "table.jsonl"),
        modalities={"a": {"type": "scaled", "factor": str(factor)}},
        fusion=None,
    )
    return mmreg.train(recipe, folder, device="cpu")


def test_a_moved_asset_loads_nothing_again_and_a_changed_one_all(tmp_path: Path) -> None:
    (tmp_path / "table.jsonl").write_text("".join(json.dumps(row) + "\n" for row in toys.rows(20)))
    here, there = tmp_path / "here.json", tmp_path / "there.json"
    here.write_text("2")
    train(tmp_path / "one", here)
    assert len(LOADED) == 20
    here.rename(there)
    train(tmp_path / "two", there)
    assert len(LOADED) == 20
    there.write_text("3")
    train(tmp_path / "three", there)
    assert len(LOADED) == 40
