"""`mmreg plot`: one figure of a run's report as a file."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from mmreg.console import Debug, Device, Quiet, RunArgument

app = typer.Typer(add_completion=False, context_settings={"help_option_names": ["-h", "--help"]})


class Kind(StrEnum):
    """What is drawn."""

    CURVES = "curves"
    CONFUSION = "confusion"
    CALIBRATION = "calibration"
    ROC = "roc"
    PRECISION_RECALL = "precision-recall"
    VALUES = "values"
    SUBSETS = "subsets"


@app.command()
def plot(
    run: RunArgument,
    kind: Annotated[Kind, typer.Argument(metavar="KIND", help="What to draw.", show_default=False)],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="FILE", help="A .png, .svg or .pdf file; else KIND.png in the run's folder."
        ),
    ] = None,
    device: Device = "auto",
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Draw one figure of a run: curves, confusion, calibration, roc, precision-recall, values or subsets.

    Example: mmreg plot runs/product confusion --out confusion.svg
    """
    from mmreg_report.plotting import write_plot

    path = write_plot(run, kind.value, out, device)
    if not quiet:
        print(path)
