"""Which rows of a table are explained."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from mmreg import Run
from mmreg.errors import OptionError
from mmreg.messages import listed, plural


def chosen_rows(run: Run, table: Any, rows: Iterable[int] | None) -> Any:
    """A table, or some of its rows, before anything of the others is decoded.

    Args:
        run: whose rows they are.
        table: as `Run.predict` takes it.
        rows: their numbers as people count them, from 1; None for all.

    Raises:
        OptionError: the table has no such row.
    """
    if rows is None:
        return table
    opened = run.open_table([table] if isinstance(table, Mapping) else table)
    numbers = {number: place for place, number in enumerate((opened.row_numbers + 1).tolist())}
    wanted = list(dict.fromkeys(rows))
    missing = [number for number in wanted if number not in numbers]
    if missing or not wanted:
        raise OptionError(
            f"rows: {opened.name} has {plural(len(opened), 'row')}, counted from 1, and no row {listed(missing)}"
            if missing
            else "rows: name one row at least"
        )
    return opened.select(np.array([numbers[number] for number in wanted]))


def read_rows(text: str) -> Sequence[int]:
    """Numbers of rows as `--rows` spells them.

    Raises:
        OptionError: it is spelled otherwise.

    Example:
        >>> list(read_rows("3,7..9"))
        [3, 7, 8, 9]
    """
    found: list[int] = []
    for part in text.split(","):
        first, _, last = part.strip().partition("..")
        try:
            start, end = int(first), int(last or first)
        except ValueError:
            raise OptionError(f"--rows takes numbers from 1, such as 3,7..9; found {part.strip()!r}") from None
        if not 1 <= start <= end or end - start > 10_000_000:
            raise OptionError(f"--rows takes numbers from 1, the smaller first, such as 3,7..9; found {part.strip()!r}")
        found.extend(range(start, end + 1))
    return found
