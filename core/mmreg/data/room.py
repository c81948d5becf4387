"""How much memory there is for what a file says that it holds."""

from __future__ import annotations

import sys
from pathlib import Path

from mmreg.errors import TableError

ROW = 12
"""Bytes that a table takes for each row besides its cells."""
_GIB = 1 << 30


def free_memory() -> int:
    """Bytes of memory that a process may still take, as far as the system tells; without limit elsewhere."""
    bounds = [sys.maxsize]
    for name, unit in (("/proc/meminfo", 1024), ("/sys/fs/cgroup/memory.max", 1)):
        try:
            words = Path(name).read_text().split()
        except OSError:  # not Linux
            continue
        number = words[words.index("MemAvailable:") + 1] if "MemAvailable:" in words else words[0]
        bounds += [int(number) * unit] if number.isdigit() else []
    return min(bounds)


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
