"""`mmreg schema`: what may stand in a recipe, for editors."""

from __future__ import annotations

from mmreg.console import Debug, print_json


def schema(debug: Debug = False) -> None:
    """Print a JSON schema of recipes for editors, with the options of every installed component.

    Example: mmreg schema > recipe.schema.json
    """
    from mmreg.recipe.schema import recipe_schema

    print_json(recipe_schema())
