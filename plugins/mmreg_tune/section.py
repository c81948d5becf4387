"""The section of a report that tells of the search that a run was a trial of."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from mmreg.errors import RunError
from mmreg.files import irregular
from mmreg.messages import one_line, plural
from mmreg.sections import Bars, Block, Chart, Reported, Series, Table
from mmreg_tune.storage import RESULTS, TRIALS

IMPORTANCE = "importance.csv"


def section(reported: Reported) -> list[Block]:
    """How the figures of the trials grew, how much each value matters, and the trials; nothing of other runs."""
    folder = Path(reported.run.folder).absolute()
    search = folder.parent.parent
    if folder.parent.name != TRIALS or not (search / RESULTS).is_file():
        return []
    rows, importance = _read(search / RESULTS), _read(search / IMPORTANCE)
    try:
        return _told(folder.name, rows, {row["key"]: float(row["importance"]) for row in importance})
    except (KeyError, ValueError, StopIteration) as error:
        raise RunError(f"{search / RESULTS} or {IMPORTANCE} is damaged, or was edited: {one_line(error)}") from error


def _told(name: str, rows: list[dict[str, str]], importance: dict[str, float]) -> list[Block]:
    figure = next(column for column in rows[0] if column.startswith("validation "))
    finished = [(int(row["trial"]), float(row[figure])) for row in rows if row["state"] == "finished" and row[figure]]
    pruned = [(int(row["trial"]), float(row[figure])) for row in rows if row["state"] == "pruned" and row[figure]]
    text = (
        f"This run is trial {int(name)} of a search of {plural(len(rows), 'trial')}, of which {len(finished)} "
        "finished. Validation rows chose among them, so that the best one's validation figure is too good."
    )
    series = [
        Series(state, [float(n) for n, _ in points], [value for _, value in points], "points")
        for state, points in (("finished", finished), ("pruned", pruned))
        if points
    ]
    blocks: list[Block] = [text, Chart("Figures of the trials", "trial", figure, series)]
    if importance:
        blocks.append(Bars("Importance of each value (PED-ANOVA)", "importance", importance))
    columns = [column for column in rows[0] if any(row[column] for row in rows)]
    table = [{column: _number(row[column]) for column in columns} for row in rows]
    return [*blocks, Table("Trials", table, folded=True)]


def _read(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file; none where it is not there."""
    if irregular(path) or not path.is_file():
        return []
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))
    except (OSError, ValueError, csv.Error) as error:
        raise RunError(f"{path} cannot be read: {one_line(error)}") from error


def _number(text: str) -> Any:
    try:
        return int(text) if text.isdigit() else float(text)
    except ValueError:
        return text or None
