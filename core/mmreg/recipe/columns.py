"""The columns that a recipe names: which they are, and whether a table has them."""

from __future__ import annotations

import pyarrow as pa

from mmreg.data.table import Table
from mmreg.errors import TableError
from mmreg.messages import listed, near
from mmreg.recipe.form import Fractions
from mmreg.recipe.recipe import Recipe
from mmreg.registry.options import KeyPath, Problem


def check_columns(recipe: Recipe, table: Table, target: bool = True) -> None:
    """Refuse a table that lacks columns that the recipe names.

    Raises:
        RecipeError: names every missing column, the nearest ones and those that there are.
        TableError: the table has a single column, whose name looks like those of several.
    """
    recipe.fail_if(missing_columns(recipe, table, target))


def check_key(table: Table, key: str | None) -> None:
    """Refuse a key that cannot name rows in predictions.

    Raises:
        TableError: its values are lists, mappings or Python objects, or cannot be read.
    """
    if key is not None and (key in table.objects or pa.types.is_nested(table.column(key).type)):
        kind = "Python objects" if key in table.objects else table.column(key).type
        raise TableError(f"{table.name}: the key column {key!r} holds {kind}; name a column of texts or numbers")


def missing_columns(recipe: Recipe, table: Table, target: bool = True) -> list[Problem]:
    """A problem for every column that the recipe names and the table lacks; see `check_columns`."""
    names = set(table.columns)
    missing = [(path, column) for path, column in _named_columns(recipe, target) if column not in names]
    if missing and len(table.columns) == 1 and set(table.columns[0]) & set(";|\t,"):
        table.column(missing[0][1])  # says that the file may have another separator
    there = listed(table.columns, 20)
    return [
        Problem(path, f"{table.name} has no column {column!r}{near(column, table.columns)} (it has {there})")
        for path, column in missing
    ]


def read_columns(recipe: Recipe) -> list[str]:
    """The columns that a recipe names, each once."""
    return list(dict.fromkeys(column for _, column in _named_columns(recipe)))


def _named_columns(recipe: Recipe, target: bool = True) -> list[tuple[KeyPath, str]]:
    """The columns that a recipe names, each with its key."""
    form = recipe.form
    named: list[tuple[KeyPath, str | None]] = []
    if target:
        for name, of in form.predicted.items():
            where = ("targets", name) if name else ("target",)
            named += [((*where, "column"), of.column), ((*where, "weight"), of.weight)]
            named += [((*where, "columns", read), column) for read, column in (of.columns or {}).items()]
        named.append((("key",), form.key))
        named.append((("split",), form.split if isinstance(form.split, str) else None))
        if isinstance(form.split, Fractions):
            named += [(("split", "by"), form.split.by), (("split", "column"), form.split.column)]
        among = form.training.missing.among
        named += [(("training", "missing_rate", "among", name), column) for name in among for column in among[name]]
    for name, given in form.modalities.items():
        path: KeyPath = ("modalities", name)
        if given.columns is None:
            named += [((*path, "column"), column) for column in given.reads(name)]
        else:
            named += [((*path, "columns", number), column) for number, column in enumerate(given.columns)]
    return [(path, column) for path, column in named if column is not None]
