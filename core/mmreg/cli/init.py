"""`mmreg init`: a first recipe for a table."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated

import typer

from mmreg.console import Debug, Encoding, Separator, say
from mmreg.messages import to_type

SMALL = 5_000
"""Rows of all epochs together up to which a training takes a minute or two at most, which nobody needs to be told."""


def init(
    table: Annotated[
        str, typer.Argument(metavar="TABLE", help="A table's path, or scheme://... of a plugin.", show_default=False)
    ],
    target: Annotated[
        list[str] | None,
        typer.Option(
            "--target",
            metavar="COLUMN",
            help="The column to predict; guessed by its name if not given. Repeatable, for several targets.",
        ),
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="The recipe to write.")] = Path(
        "recipe.yaml"
    ),
    separator: Separator = None,
    encoding: Encoding = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a recipe that is there.")] = False,
    debug: Debug = False,
) -> None:
    """Look at a table and write a recipe for it that trains as it stands, with the reason for each choice.

    Of each column of files a few are loaded; where some of these cannot be, the recipe does without such files. If
    none of the few is broken but another is, train refuses it by name.

    Example: mmreg init products.csv --target label --out recipe.yaml
    """
    from mmreg.data.dialect import TableFile
    from mmreg.recipe.draft import write_recipe

    print(write_recipe(TableFile(table, separator, encoding), target, out, overwrite=overwrite), end="")
    say(f"\nwrote {out}; next: mmreg train {to_type(out)} --out run")
    _say_how_long(out)


def _say_how_long(recipe: Path) -> None:
    """Say how long the training will take, where that is found by trying: on a CPU, and with rows that can be read."""
    from mmreg.data.sources import open_table
    from mmreg.messages import duration
    from mmreg.model.devices import available_devices
    from mmreg.recipe.recipe import read_recipe

    if available_devices() != ["cpu"]:
        return
    with contextlib.suppress(Exception):  # what fails here fails again in the training, which says why
        drafted = read_recipe(recipe)
        (file,) = drafted.form.files().values()
        if len(open_table(file, drafted.folder)) * drafted.form.training.epochs <= SMALL:
            return
        from mmreg.training.estimate import expected_seconds  # takes as long to import as a small table to look at

        say(f"on this machine's CPU the training takes about {duration(expected_seconds(recipe))}")
