"""`mmreg plot`: one figure of a run's report as a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmreg.console import Debug, Device, Quiet, RunArgument
from mmreg_report.kinds import OWN

app = typer.Typer(add_completion=False, context_settings={"help_option_names": ["-h", "--help"]})


def _kinds() -> list[str]:
    from mmreg import registry

    return [*OWN, *(section.spec.name for section in registry.sections() if section.spec.of == "run")]


@app.command()
def plot(
    run: RunArgument,
    kind: Annotated[
        str,
        typer.Argument(
            metavar="KIND",
            help=f"What to draw: {', '.join(OWN)}; or the name of a plugin's section, such as map or shares.",
            show_default=False,
            autocompletion=_kinds,
        ),
    ],
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
    """Draw one figure of a run.

    Example: mmreg plot runs/product confusion --out confusion.svg
    """
    from mmreg_report.plotting import write_plot

    path = write_plot(run, kind, out, device)
    if not quiet:
        print(path)
