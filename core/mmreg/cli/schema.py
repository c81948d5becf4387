"""`mmreg schema`: what may stand in a recipe, for editors."""

from __future__ import annotations

from typing import Annotated

import typer

from mmreg.console import Debug, print_json


def schema(
    ranges: Annotated[
        bool, typer.Option("--ranges", help="Of recipes for mmreg tune: a range or a choice may stand for a value.")
    ] = False,
    debug: Debug = False,
) -> None:
    """Print a JSON schema of recipes for editors, with the options of every installed component.

    Example: mmreg schema > recipe.schema.json
    """
    from mmreg.recipe.schema import recipe_schema

    print_json(recipe_schema(searched=ranges))
