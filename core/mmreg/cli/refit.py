"""`mmreg refit`: a run trained anew, on its validation rows as well."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmreg.cli.finish import ItsTable
from mmreg.cli.going_on import say_how_to_go_on, say_stopped
from mmreg.completion import complete_runs
from mmreg.console import Debug, Device, Quiet
from mmreg.errors import OptionError, TrainingError
from mmreg.training.signals import Signals


def refit(
    run: Annotated[
        Path,
        typer.Argument(
            metavar="RUN",
            help="The folder of a run whose training has ended.",
            show_default=False,
            autocompletion=complete_runs,
        ),
    ],
    table: ItsTable = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="The new run's folder; RUN-refit if not given.", metavar="RUN"),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option("--epochs", min=1, help="How many to train; as many as did the run good if not given."),
    ] = None,
    device: Device = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Go on with what was stopped.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a run that is there.")] = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Train a run anew, on its validation rows as well, now that they have chosen what they are for.

    The recipe is the run's, the test rows stay as they are, and operators that were fitted on validation rows are taken
    over. Of a run of --folds it makes one model, of all rows in folds.

    Example: mmreg refit runs/first --out runs/final
    """
    if resume and overwrite:
        raise OptionError("--resume goes on with a run and --overwrite replaces it; give one of them")
    from mmreg.cli.display import Display
    from mmreg.training.refit import refit as refit_run

    named = run if run.name not in ("", "..") else run.resolve()
    target = out or named.with_name(f"{named.name}-refit")
    display, stop = Display(quiet), Signals()
    try:
        with stop.watched(), display:
            made = refit_run(
                run,
                target,
                table=table,
                epochs=epochs,
                overwrite=overwrite,
                resume=resume,
                device=device,
                callback=display,
                stop=stop,
            )
    except KeyboardInterrupt as stopped:
        say_stopped(target, stopped, as_it_was=overwrite and not display.begun)
        raise typer.Exit(stop.exit_code) from None
    except (OSError, TrainingError) as error:
        if display.begun:
            say_how_to_go_on(target, fails_again=isinstance(error, TrainingError))
        raise
    display.finish(made)
