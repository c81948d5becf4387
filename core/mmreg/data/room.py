"""How much memory there is for what a file says that it holds."""

from __future__ import annotations

from pathlib import Path

from mmreg import capacity
from mmreg.errors import TableError

ROW = 12
"""Bytes that a table takes for each row besides its cells."""
_GIB = 1 << 30


def free_memory() -> float:
    """Bytes of memory that a table may still take; not of swap, as its values are used again and again."""
    return capacity.free_memory(swap=False)


def check_room(path: Path, needed: int) -> None:
    """Refuse a file whose values would take more memory than there is.

    Raises:
        TableError: says how much, and how much there is.
    """
    free = free_memory()
    if needed > free:
        raise TableError(
            f"{path} says that it holds values which take {needed / _GIB:,.1f} GiB of memory, and there are "
            f"{free / _GIB:,.1f} GiB; keep long values in files of their own, or split the table"
        )
