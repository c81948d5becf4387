"""Names of several shards at once: `train-{000..009}.tar`, `{a,b}.tar`."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator

from mmreg.errors import TableError

MOST_SHARDS = 100_000
_BRACES = re.compile(r"\{([^{}]*)\}")


def expand(name: str) -> list[str]:
    """All names that a pattern with braces stands for, in its order.

    Raises:
        TableError: they are too many.
    """
    pieces = _BRACES.split(name)
    choices = [list(_choices(piece)) if at % 2 else [piece] for at, piece in enumerate(pieces)]
    names = ["".join(parts) for parts in itertools.islice(itertools.product(*choices), MOST_SHARDS + 1)]
    if len(names) > MOST_SHARDS:
        raise TableError(f"{name!r} names more than {MOST_SHARDS:,} shards")
    return names


def _choices(inside: str) -> Iterator[str]:
    """What braces stand for: numbers with as many digits, or words."""
    bounds = re.fullmatch(r"(\d{1,9})\.\.(\d{1,9})", inside, re.ASCII)
    if bounds is None:
        yield from inside.split(",")
        return
    first, last = int(bounds[1]), int(bounds[2])
    width = len(bounds[1]) if bounds[1][0] == "0" else 0
    for number in itertools.islice(range(first, last + 1), MOST_SHARDS + 1):
        yield f"{number:0{width}}"
