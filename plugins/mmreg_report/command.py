"""`mmreg report`: one HTML file that tells all of a run, or that compares several."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from mmreg.console import Debug, Device, Quiet, RunsArgument
from mmreg.messages import byte_size

app = typer.Typer(add_completion=False, context_settings={"help_option_names": ["-h", "--help"]})


@app.command()
def report(
    runs: RunsArgument,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="The file; else report.html in the run's folder."),
    ] = None,
    rows: Annotated[
        bool,
        typer.Option("--rows/--no-rows", help="Show rows of the table with their inputs, and measure each subset."),
    ] = True,
    show: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
    device: Device = "auto",
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Write what there is to know of a run into one HTML file.

    Of several runs the file compares them, and lies in the working directory
    unless --out names it. The folder of mmreg compare or of mmreg tune has a
    report, too: what was found, not each run. It needs no other file and no network: send it.

    Example: mmreg report runs/product
    """
    from mmreg_report.writing import write_report

    path = write_report(runs, out, device, rows=rows)
    if not quiet:
        print(f"{path} ({byte_size(path.stat().st_size)})")
    if show:
        webbrowser.open(path.absolute().as_uri())
