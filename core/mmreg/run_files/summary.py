"""What there is to say of a run in one line, from its folder alone; a damaged one is told as such."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mmreg.errors import MmregError
from mmreg.files import irregular
from mmreg.messages import one_line, printable
from mmreg.run_files.facts import COMPONENTS, RECIPE, WEIGHTS, is_run, read_facts, run_file
from mmreg.run_files.figures import CONTINUED, REPORT, SPLITS, read_report, read_timings
from mmreg.run_files.lock import writer

MOST_BYTES = 1 << 26
"""Bytes of a file that are read of a run that is only listed: a vocabulary of millions of words has as many."""
DEEPEST = 6
"""Levels of folders that are looked through for runs."""
_WRONG = (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError)
"""What reading a damaged or made-up file raises."""


@dataclass(frozen=True)
class RunSummary:
    """A run in short.

    Attributes:
        folder: where it is.
        status: "whole", "stopped" before its training ended, "writing" where somebody writes to it, or "damaged".
        about: who writes to it, what is wrong with it, or how far its training went on after its figures.
        date: when its last figures were written, or its training was begun.
        modalities: the names of its inputs.
        fusion: the operator's name; of several, the outermost's.
        rows: rows of each split of the table.
        split: which one the metrics are of.
        metric: the name of the main one, which chose the weights.
        metrics: those of the split that are numbers.
        seconds: how long the training took.
        report: report.json.
    """

    folder: Path
    status: str
    about: str = ""
    date: datetime | None = None
    modalities: tuple[str, ...] = ()
    fusion: str | None = None
    rows: Mapping[str, int] = field(default_factory=dict)
    split: str | None = None
    metric: str | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    seconds: float | None = None
    report: Mapping[str, Any] = field(default_factory=dict)


def find_runs(root: Path) -> Iterator[Path]:
    """The folders of runs in a folder and below it, itself among them, in the order of their names.

    No link is followed, and hidden folders are left out.
    """
    yield from _runs_in(root, 0)


def _runs_in(folder: Path, level: int) -> Iterator[Path]:
    try:
        with os.scandir(folder) as entries:
            there = {entry.name: entry.is_dir(follow_symlinks=False) for entry in entries}
    except OSError:  # it may not be read, or has just gone
        return
    if COMPONENTS in there and not {RECIPE, WEIGHTS, REPORT}.isdisjoint(there):  # others have a components.json, too
        yield folder
    if level < DEEPEST:
        for name in sorted(name for name, is_folder in there.items() if is_folder and not name.startswith(".")):
            yield from _runs_in(folder / name, level + 1)


def summarize(folder: Path) -> RunSummary:
    """A run in short, whatever state its folder is in."""
    date = _date(folder)
    try:
        holder = writer(folder)
        told = _told(folder, ended=not holder)
    except (MmregError, *_WRONG) as error:
        return RunSummary(folder, "damaged", one_line(error), date)
    if holder:
        return RunSummary(folder, "writing", printable(holder), date, **told)
    missing = [name for name in (RECIPE, COMPONENTS) if not (folder / name).is_file()]
    if told["report"] and not (folder / WEIGHTS).is_file():
        missing.append(WEIGHTS)
    if missing:
        return RunSummary(folder, "damaged", f"{missing[0]} is gone", date, **told)
    if (folder / WEIGHTS).is_file() and not _is_whole(folder / WEIGHTS):
        return RunSummary(folder, "damaged", f"{WEIGHTS} is not as it was written", date, **told)
    if not told["report"]:
        return RunSummary(folder, "stopped", "", date, **told)
    on = ""
    if told["report"].get(CONTINUED):
        last = max((int(row["epoch"]) for row in read_timings(folder)), default=0)
        on = f"trained on to epoch {last}, not finished"
    return RunSummary(folder, "whole", on, date, **told)


def _told(folder: Path, *, ended: bool) -> dict[str, Any]:
    """What its files tell; of a training under way, what is written so far."""
    for name in (COMPONENTS, REPORT, RECIPE):
        path = run_file(folder, name)
        if path.is_file() and path.stat().st_size > MOST_BYTES:
            raise ValueError(f"{name} is larger than {MOST_BYTES >> 20} MiB")
    if not ended and not is_run(folder):
        return {"report": {}}
    facts = read_facts(folder)
    components = {str(role): part["name"] for role, part in facts["components"].items()}
    rows = {str(split): int(count) for split, count in (facts["table"].get("rows") or {}).items()}
    report = read_report(folder) if (folder / REPORT).exists() or irregular(folder / REPORT) else {}
    split = next((split for split in SPLITS if split in report), None)
    metrics = _numbers(report[split]["metrics"]) if split else {}
    chose = (report.get("best") or {}).get("metric")
    epochs = report.get("epochs", math.inf)  # there are more where it was trained on, and not finished
    timings = [row for row in read_timings(folder) if int(row["epoch"]) <= epochs]
    modalities = [role.removeprefix("modality/") for role in components if role.startswith("modality/")]
    parts = facts["table"].get("inputs")  # of runs that were combined, what they have in common
    return {
        "modalities": tuple(printable(str(name)) for name in (parts or modalities)),
        "fusion": next((printable(str(name)) for role, name in components.items() if role.startswith("fusion/")), None),
        "rows": rows,
        "split": split,
        "metric": chose if chose in metrics else next(iter(metrics), None),
        "metrics": metrics,
        "seconds": sum(float(row["seconds"]) for row in timings) if timings else None,
        "report": report,
    }


def _is_whole(weights: Path) -> bool:
    """Whether a file of weights is as long as its header says; the weights themselves are not read."""
    try:
        with weights.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length)) if length <= min(size, MOST_BYTES) else {}
        ends = [each["data_offsets"][1] for name, each in header.items() if name != "__metadata__"]
        return bool(8 + length + max(ends, default=0) == size)
    except _WRONG:
        return False


def _numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Those that are numbers, which a truth value is none of."""
    return {printable(name): float(value) for name, value in metrics.items() if type(value) in (int, float)}


def _date(folder: Path) -> datetime | None:
    for name in (REPORT, COMPONENTS):
        try:
            return datetime.fromtimestamp((folder / name).lstat().st_mtime, UTC)
        except (OSError, ValueError, OverflowError):  # it is not there, or its time is none
            continue
    return None
