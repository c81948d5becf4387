"""What a run's folder says of its training: the figures, and how long it took."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from mmreg.run_files.facts import run_file

REPORT = "report.json"
TIMINGS = "timings.csv"
SPLITS = ("test", "out_of_fold", "validation")
"""What figures of a report may be of, those that tell the most first."""


def read_report(folder: Path) -> dict[str, Any]:
    """What a run's report holds.

    Raises:
        OSError, ValueError: there is none, or it cannot be read.
    """
    report: dict[str, Any] = json.loads(run_file(folder, REPORT).read_text(encoding="utf-8"))
    return report


def read_timings(folder: Path) -> list[dict[str, str]]:
    """The rows of timings.csv, whose "epoch" and "seconds" are numbers; none where it is missing or damaged."""
    try:
        with run_file(folder, TIMINGS).open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        for row in rows:
            int(row["epoch"]), float(row["seconds"]), int(row.get("device_memory_bytes") or 0)
    except (OSError, ValueError, KeyError, TypeError, csv.Error):  # nothing but a table of seconds depends on it
        return []
    return rows
