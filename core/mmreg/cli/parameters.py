"""Parameters that several commands share: one spelling and one help text each."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Format(StrEnum):
    """How a command prints its result."""

    TABLE = "table"
    JSON = "json"


def _debug(value: bool) -> bool:
    if value:
        os.environ["MMREG_DEBUG"] = "1"
    return value


FormatOption = Annotated[
    Format, typer.Option("--format", help="A table for people, or one JSON document on stdout.", show_default=True)
]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.", callback=_debug, is_eager=True)]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but the result, warnings and errors.")]
Device = Annotated[
    str, typer.Option("--device", help="Where to compute: auto (the best one there is), cpu, cuda, cuda:1, mps.")
]
Precision = Annotated[
    str | None, typer.Option("--precision", help="auto, float32, bfloat16 or float16, instead of the recipe's.")
]
Seed = Annotated[int | None, typer.Option("--seed", min=0, help="The seed, instead of the recipe's.")]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Change a key of the recipe, such as training.epochs=3. May be repeated."
    ),
]
BatchSize = Annotated[int | None, typer.Option("--batch-size", min=1, help="Rows at a time.")]
RecipeArgument = Annotated[Path, typer.Argument(metavar="RECIPE", help="A recipe (YAML).", show_default=False)]
RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder.", show_default=False)]
OutFolder = Annotated[Path, typer.Option("--out", "-o", metavar="RUN", help="The run's folder, to be made.")]


def recipe_overrides(settings: list[str] | None, precision: str | None = None, seed: int | None = None) -> list[str]:
    """All overrides of a recipe as `--set` spells them."""
    overrides = list(settings or [])
    if precision is not None:
        overrides.append(f"training.precision={precision}")
    if seed is not None:
        overrides.append(f"training.seed={seed}")
    return overrides
