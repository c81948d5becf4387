"""The command `mmreg skeleton-name`; what it needs is imported when it is called."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from mmreg.console import Debug, Format, FormatOption, RunsArgument, print_json, print_table
from mmreg.errors import RunError

app = typer.Typer()


@app.command()
def show(
    runs: RunsArgument,
    split: Annotated[str, typer.Option(help="Which rows: test or validation.")] = "test",
    format: FormatOption = Format.TABLE,
    debug: Debug = False,
) -> None:
    """Show the figures of several runs, side by side.

    Example: mmreg skeleton-name runs/first runs/second --split validation
    """
    rows = [{"run": str(run), **figures(run, split)} for run in runs]
    if format is Format.JSON:
        print_json(rows)
    else:
        print_table(rows, list(dict.fromkeys(column for row in rows for column in row)))


def figures(run: Path, split: str) -> dict[str, float]:
    """A run's number of rows, and its figures on them.

    Args:
        run: its folder.
        split: which rows.

    Raises:
        RunError: it is not finished, or has no figures of these rows.
    """
    try:
        report = json.loads((run / "report.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{str(run)!r} is no run that is finished: {error}") from error
    if split not in report:
        raise RunError(f"{str(run)!r} has no figures of {split!r} rows; try --split validation")
    metrics = report[split]["metrics"]
    return {"rows": report[split]["rows"], **{k: v for k, v in metrics.items() if isinstance(v, float)}}
