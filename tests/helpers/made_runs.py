"""Run folders as trainings leave them, made by hand in no time: what only lists them reads no weights."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmreg.run_files.facts import CHECKSUM, facts_checksum

RECIPE = """\
table: /data/table.csv
modalities:
  image: {{type: mmreg:image, size: 16}}
  title: {{type: mmreg:text}}
fusion: {{name: 'mmreg:{fusion}', of: [image, title]}}
training:
  epochs: {epochs}
  optimizer: {{name: mmreg:AdamW, lr: {lr}}}
"""
WEIGHTS = (2).to_bytes(8, "little") + b"{}"
"""A safetensors file without any tensor."""


def make_run(
    folder: Path,
    *,
    fusion: str = "concat",
    accuracy: float | None = 0.9,
    epochs: int = 2,
    lr: float = 0.001,
    date: int = 1_700_000_000,
    facts: Mapping[str, Any] | None = None,
) -> Path:
    """A run with figures of validation and test rows, or without any, as of a training that was stopped."""
    folder.mkdir(parents=True)
    roles = {"task": "classification", "modality/image": "image", "modality/title": "text", f"fusion/{fusion}": fusion}
    told = {
        "format": 1,
        "components": {role: {"name": name, "distribution": "mmreg"} for role, name in roles.items()},
        "table": {"name": "table.csv", "rows": {"train": 60, "validation": 20, "test": 20}},
        **(facts or {}),
    }
    (folder / "components.json").write_text(json.dumps({**told, CHECKSUM: facts_checksum(told)}))
    (folder / "recipe.yaml").write_text(RECIPE.format(fusion=fusion, epochs=epochs, lr=lr))
    if accuracy is not None:
        figures = {"accuracy": accuracy, "f1": accuracy / 2, "labels": ["a", "b"]}
        part = {"modalities": {"image": {"rows": 20, "accuracy": accuracy / 4}}}
        report = {
            "epochs": epochs,
            "best": {"metric": "accuracy", "value": accuracy, "epoch": 1},
            "validation": {"split": "validation", "rows": 20, "metrics": {**figures, "accuracy": accuracy + 0.01}},
            "test": {"split": "test", "rows": 20, "metrics": figures | part},
        }
        (folder / "report.json").write_text(json.dumps(report))
        (folder / "model.safetensors").write_bytes(WEIGHTS)
        (folder / "timings.csv").write_text("epoch,seconds\n1,1.5\n2,2.5\n")
    for path in folder.iterdir():
        os.utime(path, (date, date))
    return folder
