"""The cache folder: where it is, how large it is, clearing it, and removing what killed processes left."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import platformdirs

from mmreg.files import fcntl

STALE_SECONDS = 24 * 3600
_ENTRY = re.compile(r"[0-9a-f]{40}")
_UNDER_WAY = re.compile(r"[0-9a-f]{40}-[0-9a-f]{8}\.(tmp|lock)")


def cache_dir() -> Path:
    """The folder of caches: the environment variable MMREG_CACHE_DIR, else the user's cache folder."""
    chosen = os.environ.get("MMREG_CACHE_DIR")
    return Path(chosen) if chosen else platformdirs.user_cache_path("mmreg")


def entries_dir(root: Path) -> Path:
    """Where a cache folder keeps the prepared columns, one folder each."""
    return root / "prepared"


def entries(root: Path) -> list[Path]:
    """Whatever has the name of a prepared column; nothing else in there is mmreg's."""
    return [path for path in listing(entries_dir(root)) if _ENTRY.fullmatch(path.name)]


@dataclass(frozen=True)
class CacheUse:
    """How many prepared columns a cache folder holds, and their bytes."""

    entries: int
    bytes: int


def cache_use(root: Path) -> CacheUse:
    """How much a cache folder holds; nothing if it does not exist."""
    found = entries(root)
    files = [path for entry in found for path in (listing(entry) if is_folder(entry) else [entry])]
    return CacheUse(len(found), sum(path.lstat().st_size for path in files))


def clear_cache(root: Path) -> CacheUse:
    """Remove every prepared column that nobody is writing just now, of whatever release; returns what was there."""
    use = cache_use(root)
    for entry in entries(root):
        remove(entry)
    remove_leftovers(root)
    return use


def remove_leftovers(root: Path) -> None:
    """Remove what processes that were killed left half written."""
    for path in listing(entries_dir(root)):
        if _UNDER_WAY.fullmatch(path.name):
            _remove_if_abandoned(path, path.with_suffix(".lock"))


def remove(path: Path) -> None:
    """Remove a file, a folder or a link, never what a link leads to, as far as that can be done."""
    with contextlib.suppress(OSError):
        if is_folder(path):
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()


def is_folder(path: Path) -> bool:
    """Whether a folder is there; a link to one is none."""
    try:
        return stat.S_ISDIR(path.lstat().st_mode)
    except OSError:
        return False


def locked(path: Path) -> IO[str]:
    """A file that is locked as long as it is open, so that others see whether its writer lives."""
    while True:
        file = path.open("w", encoding="utf-8")
        if fcntl is None:
            return file
        fcntl.flock(file, fcntl.LOCK_EX)
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        file.close()  # somebody took it for a leftover before it was locked


def _remove_if_abandoned(path: Path, lock: Path) -> None:
    """Remove a folder under way, and its lock, if nobody writes it any more; `path` is either of the two."""
    with contextlib.ExitStack() as held, contextlib.suppress(OSError):
        if fcntl is None:
            if time.time() - path.stat().st_mtime < STALE_SECONDS:
                return
        else:
            with contextlib.suppress(FileNotFoundError):  # the lock is made first and removed last
                # Held while both are removed: so a writer that waits for it sees that it is gone.
                file = held.enter_context(lock.open("r+", encoding="utf-8"))
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        remove(path.with_suffix(".tmp"))
        remove(lock)


def listing(folder: Path) -> list[Path]:
    """What is in a folder; nothing if it cannot be read."""
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []
