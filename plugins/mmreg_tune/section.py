"""The section of a report that tells of the search that a run was a trial of."""

from __future__ import annotations

import csv
import re
from itertools import accumulate
from pathlib import Path
from typing import Any

from mmreg.errors import RunError
from mmreg.files import irregular
from mmreg.messages import cell, one_line, plural
from mmreg.sections import Bars, Block, Chart, Reported, Series, Table
from mmreg_tune.storage import RESULTS, TRIALS

IMPORTANCE, BEST = "importance.csv", "best.yaml"
BEST_TRIALS = 10
"""Trials that are told first."""


def section(reported: Reported) -> list[Block]:
    """How the figures of the trials grew, how much each value matters, and the trials; nothing of other runs."""
    folder = Path(reported.run.folder).absolute()
    search = folder.parent.parent
    if folder.parent.name != TRIALS or not (search / RESULTS).is_file():
        return []
    rows, importance = _read(search / RESULTS), _read(search / IMPORTANCE)
    try:
        return _told(folder.name, rows, {row["key"]: float(row["importance"]) for row in importance})
    except (KeyError, ValueError, TypeError, AttributeError, StopIteration) as error:
        raise RunError(f"{search / RESULTS} or {IMPORTANCE} is damaged, or was edited: {one_line(error)}") from error


def study(folder: Path) -> list[Block]:
    """The same of a search's own folder, with its best trials; nothing of other folders."""
    rows, importance = _read(folder / RESULTS), _read(folder / IMPORTANCE)
    try:
        shares = {row["key"]: float(row["importance"]) for row in importance}
        return _told(None, rows, shares, _best(folder)) if rows else []
    except (KeyError, ValueError, TypeError, AttributeError, StopIteration) as error:
        raise RunError(f"{folder / RESULTS} or {IMPORTANCE} is damaged, or was edited: {one_line(error)}") from error


def _best(folder: Path) -> int | None:
    """The number of the best trial, as best.yaml says it; None where that is not there."""
    path = folder / BEST
    if irregular(path) or not path.is_file():
        return None
    found = re.match(r"# Trial (\d+) of", path.read_text(encoding="utf-8", errors="replace"))
    return int(found[1]) if found else None


def _told(
    name: str | None, rows: list[dict[str, str]], importance: dict[str, float], best: int | None = None
) -> list[Block]:
    """Blocks, of the trial of that name or of the search itself.

    Args:
        name: the trial's; None for the search.
        rows: of the table of trials.
        importance: by key.
        best: the number of the best trial, if it is to be told of.
    """
    figure = next(column for column in rows[0] if column.startswith("validation "))
    finished = [(int(row["trial"]), float(row[figure])) for row in rows if row["state"] == "finished" and row[figure]]
    pruned = [(int(row["trial"]), float(row[figure])) for row in rows if row["state"] == "pruned" and row[figure]]
    of = f"a search of {plural(len(rows), 'trial')}, of which {len(finished)} finished"
    text = (
        f"{f'This run is trial {int(name)} of {of}' if name else of[0].upper() + of[1:]}. Validation rows chose among "
        "them, so that the best one's validation figure is too good."
    )
    series = [
        Series(state, [float(n) for n, _ in points], [value for _, value in points], "points")
        for state, points in (("finished", finished), ("pruned", pruned))
        if points
    ]
    columns = [column for column in rows[0] if any(row[column] for row in rows)]
    table = [{column: _number(row[column]) for column in columns} for row in rows]
    blocks: list[Block] = [text]
    if best is not None:
        value = dict(finished)[best]
        more = value == max(each for _, each in finished)
        ranked = sorted(finished, key=lambda pair: pair[1], reverse=more)[:BEST_TRIALS]
        by_number = {row["trial"]: row for row in table}
        blocks.append(
            f"The best is trial {best}, by {figure} {cell(value)}. Train its recipe, {BEST} in the search's folder: no "
            "trial has looked at its test rows."
        )
        blocks.append(Table("Best trials", [_without_reason(by_number[number]) for number, _ in ranked]))
        grown = list(accumulate((each for _, each in finished), max if more else min))
        series.append(Series("best so far", [float(number) for number, _ in finished], grown))
    blocks.append(Chart("Figures of the trials", "trial", figure, series))
    if importance:
        blocks.append(Bars("Importance of each value (PED-ANOVA)", "importance", importance))
    return [*blocks, Table("Trials", table, folded=True)]


def _without_reason(row: dict[str, Any]) -> dict[str, Any]:
    """A trial that has finished, without what is told of others."""
    return {key: value for key, value in row.items() if key not in ("state", "reason")}


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
