"""What a run's folder says of its training: the figures, and how long it took."""

from __future__ import annotations

import csv
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from mmreg.files import write_json
from mmreg.run_files.facts import WEIGHTS, run_file

REPORT = "report.json"
TIMINGS = "timings.csv"
CONTINUED = "continued"
"""The key of a report by which it says that its training goes on."""
SPLITS = ("test", "out_of_fold", "validation")
"""What figures of a report may be of, those that tell the most first."""


def read_report(folder: Path) -> dict[str, Any]:
    """What a run's report holds.

    Raises:
        OSError, ValueError: there is none, or it cannot be read.
    """
    report: dict[str, Any] = json.loads(run_file(folder, REPORT).read_text(encoding="utf-8"))
    return report


def mark_continued(folder: Path) -> None:
    """Say of what a run has measured, if it has, that its training goes on: the weights stay those of before its end.

    Raises:
        OSError: it cannot be written.
    """
    with suppress(FileNotFoundError, ValueError, TypeError, RecursionError):  # there is none, or it is damaged
        write_json(folder / REPORT, {**read_report(folder), CONTINUED: True})


def has_ended(folder: Path) -> bool:
    """Whether a run has all that a training writes at its end, and has not been gone on with since."""
    try:
        report = read_report(folder)
    except (OSError, ValueError, RecursionError):
        return False
    return (folder / WEIGHTS).is_file() and isinstance(report, dict) and not report.get(CONTINUED)


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
