"""Tables of vectors in which it is known which modality tells the label, and runs that are trained on them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import mmreg
from mmreg import Run

Label = Callable[[Mapping[str, NDArray[np.float64]]], Any]


def rows_of(label: Label, modalities: int = 2, rows: int = 240, seed: int = 0) -> list[dict[str, Any]]:
    """Rows with vectors of four numbers, m0, m1, ..., whose third number alone may matter.

    Args:
        label: of the third numbers of all modalities, each (rows,), the labels.
        modalities: how many.
        rows: how many.
        seed: of the numbers.
    """
    random = np.random.default_rng(seed)
    values = {f"m{k}": random.normal(size=(rows, 4)) for k in range(modalities)}
    labels = np.asarray(label({name: array[:, 2] for name, array in values.items()})).tolist()
    return [{"label": labels[n], **{name: array[n].tolist() for name, array in values.items()}} for n in range(rows)]


def recipe_of(table: Path, names: list[str], task: str = "classification", **training: Any) -> dict[str, Any]:
    """A recipe for such rows: an encoder a modality, all of them fused by concatenation."""
    encoder = {"name": "mlp", "hidden": [32], "features": 16, "dropout": 0.0}
    return {
        "table": str(table),
        "target": {"column": "label", "task": task},
        "modalities": {name: {"type": "vector", "column": name, "encoder": dict(encoder)} for name in names},
        "fusion": {"name": "concat", "hidden": [32]} if len(names) > 1 else None,
        "split": {"validation": 0.2, "test": 0.0},
        "training": {
            "epochs": 30,
            "batch_size": 32,
            "optimizer": {"name": "AdamW", "lr": 0.01},
            "modality_dropout": 0.3 if len(names) > 1 else 0.0,
            **training,
        },
    }


def trained(folder: Path, label: Label, modalities: int = 2, rows: int = 240, **keys: Any) -> Run:
    """A run that was trained on such rows."""
    made = rows_of(label, modalities, rows)
    table = folder.parent / f"{folder.name}.jsonl"
    table.write_text("".join(json.dumps(row) + "\n" for row in made), encoding="utf-8")
    return mmreg.train(recipe_of(table, [f"m{k}" for k in range(modalities)], **keys), folder, device="cpu")
