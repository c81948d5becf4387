"""For `mmreg init`: the ways to take apart cells that may hold several values each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from mmreg.data.hashing import is_text
from mmreg.data.list_cells import ListCells, list_cells
from mmreg.data.table import Table
from mmreg.errors import MmregError

SEPARATORS = ("|", ";", ",", " ")
"""What may stand between the paths of a text, in the order in which they are tried."""


def parted(table: Table, column: str) -> Iterator[tuple[ListCells, Mapping[str, tuple[Any, str]], bool]]:
    """The ways in which a column's cells can be taken apart so that some hold more than one value.

    Args:
        table: a sample of the rows.
        column: of it.

    Yields:
        The values, the recipe's keys for them, each with the reason, and whether to believe it only of files: a text
        that holds a separator is mostly just a text.
    """
    is_texts = column not in table.objects and column not in table.unreadable and is_text(table.column(column).type)
    for separator in (None, *(SEPARATORS if is_texts else ())):
        try:
            cells = list_cells(table, column, separator)
        except MmregError:  # its lists are values themselves, or it cannot be read
            return
        counts = np.diff(cells.bounds)
        if counts.max(initial=0) < 2 or cells.causes:
            continue
        told = f"up to {counts.max()} values a cell, {counts.mean():.1f} on average; max, attention or tokens instead"
        keys = {"many": ("mean", told)}
        yield cells, keys if separator is None else {**keys, "separator": (separator, "")}, separator is not None
