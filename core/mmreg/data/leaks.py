"""The same value in two splits: what was trained on must not be what is measured on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from mmreg.data.identity import is_comparable, value_codes
from mmreg.data.list_cells import ListCells
from mmreg.data.table import Table
from mmreg.messages import plural, printable

SHOWN = 5
"""Columns that a line names."""


@dataclass(frozen=True)
class Leak:
    """Values of one column that occur in two splits.

    Attributes:
        column: the column.
        first: the split that has them as well, such as "train".
        second: the split that is the worse for it, such as "test".
        values: how many distinct values.
        rows: how many rows of the second split hold one of them.
        of: how many rows the second split has.
    """

    column: str
    first: str
    second: str
    values: int
    rows: int
    of: int

    def __str__(self) -> str:
        values = plural(self.values, "value")
        rows = plural(self.of, f"{self.second} row holds", f"{self.second} rows hold")
        return f"{self.rows:,} of {rows} {values} of {self.first}"


def leaks_text(found: Sequence[Leak]) -> str:
    """All leaks in one line."""
    by_column: dict[str, list[str]] = {}
    for leak in found:
        by_column.setdefault(leak.column, []).append(str(leak))
    columns = [f"column {printable(name)}: {', '.join(texts)}" for name, texts in by_column.items()]
    more = [plural(len(columns) - SHOWN, "more column")] if len(columns) > SHOWN else []
    return f"figures may be too good, as splits share values: {'; '.join(columns[:SHOWN] + more)}"


def leaks(
    table: Table,
    splits: Mapping[str, NDArray[np.int64]],
    columns: Sequence[str],
    paths: Sequence[str] = (),
    lists: Mapping[str, ListCells] | None = None,
) -> list[Leak]:
    """For each column and pair of splits the values that both hold, if there are any.

    Args:
        table: the rows.
        splits: the rows of each split, the one that is trained on first.
        columns: the columns that modalities read; those of numbers, which are equal by chance, are passed over.
        paths: those of the columns whose texts are paths, which are equal only in the same folder.
        lists: the cells of those columns that hold any number of values, each of which is looked at.
    """
    found, owners = [], np.arange(len(table))
    for column in columns:
        cells = (lists or {}).get(column)
        values = table if cells is None else cells.values
        if not is_comparable(values, column):
            continue
        codes = value_codes(values, column, paths=column in paths)
        own = splits if cells is None else {name: cells.places(rows) for name, rows in splits.items()}
        of_row = owners if cells is None else cells.owners
        count = int(codes.max(initial=-1)) + 1
        in_split = {name: np.zeros(count + 1, bool) for name in splits}  # the last one is for absent cells, -1
        for name, places in own.items():
            in_split[name][codes[places]] = True
        for first, second in combinations(splits, 2):
            shared = in_split[first] & in_split[second]
            shared[count] = False
            if shared.any():
                rows_with = len(np.unique(of_row[own[second][shared[codes[own[second]]]]]))
                found.append(Leak(column, first, second, int(shared.sum()), rows_with, len(splits[second])))
    return found
