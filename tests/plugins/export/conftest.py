"""Runs of one epoch on a small table, of any modalities and operator."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small

import mmreg

Trained = Callable[..., mmreg.Run]


@pytest.fixture(scope="session")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export")
    rows = small.make_files(folder)
    random = np.random.default_rng(0)
    for number, row in enumerate(rows):
        row["series"] = json.dumps((random.normal(size=(5 + number % 9, 3)) + number % 3).round(3).tolist())
        row["vector"] = json.dumps((random.normal(size=4) + number % 3).round(3).tolist())
        row["a"], row["b"] = round(float(random.normal()), 3), ["x", "y", "z"][int(random.integers(3))]
        if number % 4 == 1:
            row["title"] = ""  # absent
    return small.write_table(folder / "table.csv", rows)


@pytest.fixture
def trained(table: Path, tmp_path: Path) -> Trained:
    """Train modalities under an operator."""

    def train(modalities: Mapping[str, Any], fusion: str | None = None, target: Any = None) -> mmreg.Run:
        recipe = {
            "table": str(table),
            "split": "split",
            "key": "id",
            "target": target or {"column": "label", "task": "classification"},
            "modalities": dict(modalities),
            "training": {"epochs": 1, "batch_size": 16, "seed": 0, "precision": "float32"},
        }
        mmreg.train(recipe | ({"fusion": fusion} if fusion else {}), tmp_path / "run", device="cpu")
        return mmreg.load(tmp_path / "run", device="cpu", precision="float32")

    return train
