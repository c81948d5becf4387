"""The copies of fetched files in the cache folder: where they are, how large one may be, and removing them."""

from __future__ import annotations

import os
from pathlib import Path

from mmreg.data.cache import CacheUse, remove
from mmreg.data.upkeep import parse_size

LIMIT = "MMREG_FETCH_LIMIT"
"""The environment variable that says how large a file may be that is fetched."""
LARGEST = 2_000_000_000
"""How large one may be where it is not set, in bytes."""


def fetched_dir(root: Path) -> Path:
    """Where a cache folder keeps what was fetched."""
    return root / "fetched"


def fetch_limit() -> int:
    """The most bytes of a file that is fetched.

    Raises:
        OptionError: the environment variable holds no size.
    """
    text = os.environ.get(LIMIT)
    return parse_size(text, LIMIT) if text else LARGEST


def fetched_use(root: Path) -> CacheUse:
    """How many files are kept that were fetched, and their bytes."""
    files = bytes_ = 0
    for folder, _, names in os.walk(fetched_dir(root)):
        for name in names:
            files += 1
            bytes_ += os.lstat(os.path.join(folder, name)).st_size  # noqa: PTH118 (a million of them)
    return CacheUse(files, bytes_)


def clear_fetched(root: Path) -> CacheUse:
    """Remove them all; returns what was there. What is needed again is fetched again."""
    use = fetched_use(root)
    remove(fetched_dir(root))
    return use
