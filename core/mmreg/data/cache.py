"""The cache folder: where it is, entries that appear whole or not at all, how large it is, clearing it."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import secrets
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import platformdirs

from mmreg.errors import CacheError

# Windows has no such locks; there leftovers are told by their age.
fcntl: Any = None if sys.platform == "win32" else importlib.import_module("fcntl")

META = "meta.json"
STALE_SECONDS = 24 * 3600


def cache_dir() -> Path:
    """The folder of caches: the environment variable MMREG_CACHE_DIR, else the user's cache folder."""
    chosen = os.environ.get("MMREG_CACHE_DIR")
    return Path(chosen) if chosen else platformdirs.user_cache_path("mmreg")


def entries_dir(root: Path) -> Path:
    """Where a cache folder keeps the prepared columns, one folder each."""
    return root / "prepared"


@dataclass(frozen=True)
class CacheUse:
    """How many prepared columns a cache folder holds, and their bytes."""

    entries: int
    bytes: int


def cache_use(root: Path) -> CacheUse:
    """How much a cache folder holds; nothing if it does not exist."""
    folders = [entry for entry in _listing(entries_dir(root)) if entry.is_dir()]
    return CacheUse(len(folders), sum(file.stat().st_size for folder in folders for file in _listing(folder)))


def clear_cache(root: Path) -> CacheUse:
    """Remove every prepared column that nobody is writing just now; returns what was there."""
    use = cache_use(root)
    for entry in _listing(entries_dir(root)):
        if entry.suffix != ".tmp":
            shutil.rmtree(entry, ignore_errors=True)
    remove_leftovers(root)
    return use


def read_entry(root: Path, key: str) -> dict[str, Any] | None:
    """What `write_meta` said about an entry; None if there is none, or one whose files are not whole."""
    folder = entries_dir(root) / key
    try:
        meta: dict[str, Any] = json.loads((folder / META).read_text(encoding="utf-8"))
        whole = all((folder / name).stat().st_size == size for name, size in meta["files"].items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return meta if whole else None


def write_meta(folder: Path, meta: Mapping[str, Any]) -> None:
    """Complete an entry under way: `meta` as JSON, with the sizes of the files that are there by now."""
    sizes = {file.name: file.stat().st_size for file in _listing(folder)}
    (folder / META).write_text(json.dumps({**meta, "files": sizes}), encoding="utf-8")


@contextlib.contextmanager
def new_entry(root: Path, key: str) -> Iterator[Path]:
    """A folder to write an entry into; it gets its name when the block ends, and is removed if the block raises.

    Another process may make the same entry at the same time: the first one wins, and both are equal.

    Raises:
        CacheError: the folder cannot be made or renamed, or the block raises an OSError.
    """
    parent = entries_dir(root)
    name = f"{key}-{secrets.token_hex(4)}"
    lock: IO[str] | None = None
    folder = parent / f"{name}.tmp"
    try:
        parent.mkdir(parents=True, exist_ok=True)
        lock = _locked(parent / f"{name}.lock")
        folder.mkdir()
        yield folder
        _publish(folder, parent / key, root)
    except CacheError:
        raise
    except OSError as error:
        raise CacheError(
            f"the cache in {root} cannot be written: {error.strerror or error}; free some space there, clear the cache "
            "(mmreg doctor says how large it is), or let MMREG_CACHE_DIR name another folder"
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if lock is not None:
            lock.close()
            Path(lock.name).unlink(missing_ok=True)


def _publish(folder: Path, target: Path, root: Path) -> None:
    for _ in range(3):
        try:
            folder.rename(target)
        except OSError:
            if read_entry(root, target.name) is not None:
                return  # another process was faster
            if not target.exists():
                raise
            shutil.rmtree(target, ignore_errors=True)  # a damaged one
        else:
            return
    raise OSError(f"{target} is in the way")


def remove_leftovers(root: Path) -> None:
    """Remove what processes that were killed left half written."""
    parent = entries_dir(root)
    for folder in _listing(parent):
        if folder.suffix != ".tmp":
            continue
        lock = folder.with_suffix(".lock")
        if _is_abandoned(folder, lock):
            shutil.rmtree(folder, ignore_errors=True)
            lock.unlink(missing_ok=True)


def _locked(path: Path) -> IO[str]:
    """A file that is locked as long as it is open, so that others see whether its writer lives."""
    file = path.open("w", encoding="utf-8")
    if fcntl is not None:
        fcntl.flock(file, fcntl.LOCK_EX)
    return file


def _is_abandoned(folder: Path, lock: Path) -> bool:
    if fcntl is None:
        with contextlib.suppress(OSError):
            return time.time() - folder.stat().st_mtime > STALE_SECONDS
        return False
    try:
        with lock.open("r+", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return True  # the lock is made first and removed last
    except OSError:
        return False
    return True


def _listing(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
