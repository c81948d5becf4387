"""Options that the commands on vectors share."""

from __future__ import annotations

from typing import Annotated

import typer

Keep = Annotated[
    list[str] | None,
    typer.Option("--keep", metavar="COLUMN", help="A column of TABLE to put beside the vectors. May be repeated."),
]
