"""`mmreg list`: the components that are installed."""

from __future__ import annotations

from typing import Annotated

import typer

from mmreg import registry
from mmreg.completion import complete_kinds
from mmreg.console import Debug, Format, FormatOption, print_json, print_table
from mmreg.contract.kinds import KINDS

COLUMNS = ("kind", "name", "level", "summary", "distribution", "version", "status")


def list_components(
    kind: Annotated[
        str | None,
        typer.Argument(
            metavar="KIND",
            help=f"Only one kind: {', '.join(KINDS)}.",
            show_default=False,
            autocompletion=complete_kinds,
        ),
    ] = None,
    format: FormatOption = Format.TABLE,
    debug: Debug = False,
) -> None:
    """List the components that are installed, of every plugin; the status tells which packages one lacks.

    Example: mmreg list encoder
    """
    rows = [registry.row(entry) for entry in registry.specs(kind)]
    if format is Format.JSON:
        print_json(rows)
    else:
        print_table(rows, COLUMNS)
