"""A table of two modalities that tell the same, and recipes for it, for what is done with vectors of rows."""

from __future__ import annotations

from typing import Any

import numpy as np

ROWS = 40
ENCODER = {"name": "mlp", "hidden": [8], "features": 6}


def table(rows: int = ROWS, seed: int = 0) -> list[dict[str, Any]]:
    """Rows of two vectors that tell the same: row 1 lacks b, row 2 lacks a, row 3 both."""
    random = np.random.default_rng(seed)
    a = random.normal(size=(rows, 3))
    b = np.concatenate([a[:, :2] * 2 + 0.1 * random.normal(size=(rows, 2))], 1)
    made: list[dict[str, Any]] = [
        {"id": f"r{at}", "a": a[at].tolist(), "b": b[at].tolist(), "kind": "yes" if a[at, 0] > 0 else "no"}
        for at in range(rows)
    ]
    made[1]["b"] = made[2]["a"] = made[3]["a"] = made[3]["b"] = None
    return made


def recipe(**changes: Any) -> dict[str, Any]:
    return {
        "table": table(),
        "key": "id",
        "target": {"column": "kind", "task": "classification"},
        "modalities": {
            "a": {"type": "vector", "column": "a", "encoder": ENCODER},
            "b": {"type": "vector", "column": "b", "encoder": {**ENCODER, "features": 4}},
        },
        "fusion": "concat",
        "training": {"epochs": 2, "batch_size": 16, "seed": 0},
        **changes,
    }


def contrastive(epochs: int = 2) -> dict[str, Any]:
    made = recipe(
        target={"task": "contrastive", "features": 5},
        training={"epochs": epochs, "batch_size": 16, "seed": 0, "optimizer": {"name": "Adam", "lr": 0.02}},
    )
    del made["fusion"]
    return made
