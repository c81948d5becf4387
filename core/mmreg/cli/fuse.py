"""`mmreg fuse`: one run of several that were trained apart."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmreg.completion import complete_runs, components
from mmreg.console import Debug, Device, OutFolder, Quiet
from mmreg.importing import stdout_to_stderr


def fuse(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN", help="The runs, at least two.", show_default=False, autocompletion=complete_runs),
    ],
    fusion: Annotated[
        str,
        typer.Option(
            "--fusion",
            help='A model-level operator, by name or as "{name: stacking, l2: 0.1}".',
            autocompletion=components("fusion"),
        ),
    ] = "product",
    out: OutFolder = Path("fused"),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a run that is there.")] = False,
    device: Device = "auto",
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Combine runs with the same target into one, fitting the operator on the validation rows that all of them have.

    Example: mmreg fuse runs/image runs/text --fusion stacking --out runs/both
    """
    from mmreg.cli.display import Display
    from mmreg.recipe.yaml import read_yaml
    from mmreg.runs.fuse import fuse as combine

    operator = read_yaml(fusion, "--fusion")[0]
    with stdout_to_stderr:
        run = combine(runs, operator, out, overwrite=overwrite, device=device)
    display = Display(quiet)
    for note in run.report["notes"]:
        display.on_message(note)
    display.finish(run)
