"""`mmreg finish`: a training that was stopped made a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmreg.completion import complete_runs
from mmreg.console import AcceptChanges, Debug, Device, Quiet
from mmreg.run_files.finished import refuse_combination

ItsTable = Annotated[
    str | None, typer.Argument(metavar="TABLE", help="Its table, if that is elsewhere by now.", show_default=False)
]


def finish(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="RUN",
            help="The folder of a training that was stopped.",
            show_default=False,
            autocompletion=complete_runs,
        ),
    ],
    table: ItsTable = None,
    device: Device = "auto",
    accept_changes: AcceptChanges = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Make a run of a training that was stopped: with its best weights so far, measured as at the end of any.

    Example: mmreg finish runs/first
    """
    from mmreg.cli.display import Display
    from mmreg.training.train import finish as finish_training

    refuse_combination(folder)
    display = Display(quiet)
    with display:
        run = finish_training(folder, table, accept_changes=accept_changes, device=device, callback=display)
    display.finish(run)
