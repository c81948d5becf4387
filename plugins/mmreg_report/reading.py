"""Reads from a run's folder what its report tells."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmreg.console import finished_report, run_file
from mmreg.errors import RunError
from mmreg.messages import plural

FACTS = "components.json"
"""The file that every run has."""
DAMAGED = (OSError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError)
"""What comes of reading a file that is damaged, or was edited."""


@dataclass(frozen=True)
class Facts:
    """What a run's folder says.

    Attributes:
        name: the folder's name.
        report: report.json.
        components: components.json.
        history: the rows of metrics.csv, None where a column is empty; none of a combination of runs.
        statistics: the rows of statistics.csv, where the recipe asked for it.
        timings: the rows of timings.csv.
        folder: where all this is.
    """

    name: str
    report: dict[str, Any]
    components: dict[str, Any]
    history: list[dict[str, float | None]]
    statistics: list[dict[str, str]] = field(default_factory=list)
    timings: list[dict[str, str]] = field(default_factory=list)
    folder: Path = Path()

    @property
    def rows(self) -> dict[str, int]:
        """How many rows each split of the table has; none of a combination of runs."""
        rows: dict[str, int] = self.components.get("table", {}).get("rows") or {}
        return rows


def read_run(folder: Path) -> Facts:
    """The facts of a run whose training has ended, or of a combination of runs.

    Raises:
        RunError: the report cannot be read, a table is not whole, or a file is a link.
        DAMAGED: another file is, or what the report says.
    """
    report = finished_report(folder)
    rows = _table(folder, "metrics.csv")
    history = [{name: float(text) if text else None for name, text in row.items()} for row in rows]
    epochs = report.get("epochs")
    if epochs is not None and len(history) < epochs and (folder / "metrics.csv").exists():
        raise RunError(f"metrics.csv has {plural(len(history), 'epoch')}, and the training had {epochs}")
    components = json.loads(run_file(folder, FACTS).read_text(encoding="utf-8"))
    # An earlier training may have left its own.
    statistics = _table(folder, "statistics.csv") if "callback/statistics" in components["components"] else []
    timings = _table(folder, "timings.csv")
    if epochs is not None and len(history) > epochs:
        on = f"trained on to epoch {len(history)} since, and not finished: what is here is of the {epochs} before"
        report["notes"] = [*(report.get("notes") or []), on]
        history = history[:epochs]
        timings = [row for row in timings if int(row["epoch"]) <= epochs]
        statistics = [row for row in statistics if int(row["step"]) <= report["steps"]]
    return Facts(folder.absolute().name, report, components, history, statistics, timings, folder)


def _table(folder: Path, name: str) -> list[dict[str, str]]:
    """The rows of a CSV file; none if it is not there.

    Raises:
        RunError: it was cut off within a line, or is a link.
    """
    path = run_file(folder, name)
    if not path.is_file():
        return []
    text = path.read_text(encoding="utf-8")
    if not text.endswith("\n"):
        raise RunError(f"{path.name} was cut off: its last line has no end")
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    if any(None in row or None in row.values() for row in rows):
        raise RunError(f"{path.name} has a line with more or fewer cells than its first one")
    return rows
