"""The files that a recipe's components are built from: where they are, and what is in them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from mmreg.contract.markers import AssetMark
from mmreg.registry.options import marked


def with_absolute_assets(cls: type, options: Mapping[str, Any], folder: Path | None) -> dict[str, Any]:
    """Options with the paths of assets made absolute.

    A path is relative to the recipe's folder; one that leads nowhere from there, but somewhere from the working
    directory, is taken to be relative to that, as it was at first.

    Args:
        cls: whose options they are.
        options: complete.
        folder: the recipe's; the working directory if it is None.
    """
    paths = {}
    for name in marked(cls, AssetMark):
        given = options[name]
        if isinstance(given, str):
            path = (folder or Path()) / given
            # os.path: what no file can be called is not there, rather than an error.
            elsewhere = os.path.exists(given) and not os.path.exists(path)  # noqa: PTH110
            paths[name] = str((Path(given) if elsewhere else path).absolute())
    return {**options, **paths}


def digest(path: str | Path) -> str | None:
    """What identifies a file's contents; None if there is no such file."""
    try:
        facts = Path(path).stat()
    except OSError:
        return None
    return _digest(str(path), facts.st_size, facts.st_mtime_ns) if Path(path).is_file() else None


@lru_cache(maxsize=64)
def _digest(path: str, size: int, changed: int) -> str:
    """The hash of a file; size and time of the last change keep a changed file from being taken for the former one."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
