"""Reads from a run's folder what its report tells."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Facts:
    """What a run's folder says.

    Attributes:
        name: the folder's name.
        report: report.json.
        components: components.json.
        history: the rows of metrics.csv, None where a column is empty; none of a combination of runs.
    """

    name: str
    report: dict[str, Any]
    components: dict[str, Any]
    history: list[dict[str, float | None]]


def read_run(folder: Path) -> Facts:
    """The facts of a run whose training has ended, or of a combination of runs."""
    history = []
    if (folder / "metrics.csv").is_file():
        with (folder / "metrics.csv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        history = [{name: float(text) if text else None for name, text in row.items()} for row in rows]
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    components = json.loads((folder / "components.json").read_text(encoding="utf-8"))
    return Facts(folder.absolute().name, report, components, history)
