"""Runs of one epoch on a small table, of any modalities and operator, to be exported."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import small
from export_components import write_video

import mmreg

COLOUR = {"column": "label", "task": "classification"}


def export_table(folder: Path) -> Path:
    """A table of each kind of column, some of whose titles are absent."""
    rows = small.make_files(folder)
    random = np.random.default_rng(0)
    (folder / "videos").mkdir()
    for number, row in enumerate(rows):
        row["series"] = json.dumps((random.normal(size=(5 + number % 9, 3)) + number % 3).round(3).tolist())
        row["vector"] = json.dumps((random.normal(size=4) + number % 3).round(3).tolist())
        row["other"] = json.dumps((random.normal(size=3) - number % 3).round(3).tolist())
        row["a"], row["b"] = round(float(random.normal()), 3), ["x", "y", "z"][int(random.integers(3))]
        row["event"], row["video"] = number % 2, f"videos/{number % 3}.gif"
        write_video(folder / row["video"], number % 3)
        if number % 4 == 1:
            row["title"] = ""  # absent
    return small.write_table(folder / "table.csv", rows)


def trained_run(
    table: Path, out: Path, modalities: Mapping[str, Any], fusion: str | None = None, **target: Any
) -> mmreg.Run:
    """Train modalities under an operator; `target` or `targets` are as in a recipe."""
    recipe = {
        "table": str(table),
        "split": "split",
        "key": "id",
        "modalities": dict(modalities),
        "training": {"epochs": 1, "batch_size": 16, "seed": 0, "precision": "float32"},
        **(target or {"target": COLOUR}),
    }
    mmreg.train(recipe | ({"fusion": fusion} if fusion else {}), out, device="cpu")
    return mmreg.load(out, device="cpu", precision="float32")
