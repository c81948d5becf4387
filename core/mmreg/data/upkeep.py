"""What the cache holds, entry by entry; comparing all of it with its checksums, and making it smaller."""

from __future__ import annotations

import contextlib
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmreg.data.cache import (
    abandoned,
    bytes_of,
    entries,
    entries_dir,
    is_folder,
    is_written,
    last_change,
    remove,
    remove_leftovers,
    under_way,
)
from mmreg.data.checksums import BLOCK_BYTES, Checksums, DamagedEntryError
from mmreg.data.entry import discard_entry, open_file, read_meta
from mmreg.data.holding import is_held, last_used, unheld
from mmreg.errors import CacheError, OptionError

LIMIT = "MMREG_CACHE_MAX_SIZE"
"""The environment variable that says how large the cache may be."""
SIZES = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
AGES = {"h": 3600, "d": 24 * 3600, "w": 7 * 24 * 3600}


@dataclass(frozen=True)
class CacheEntry:
    """What is known of an entry without reading its values.

    Attributes:
        path: its folder.
        input: what the recipe that it was made for calls the input; empty where that is not known.
        modality: the modality's class; of features the encoder's.
        store: whether it holds arrays ("decoded"), files ("encoded"), or what an encoder gave ("features").
        values: how many values it holds; None where that is not known.
        bytes: how large it is.
        last_used: when it was last opened (or written to), in seconds since 1970.
        in_use: whether a running process has it open, or is writing it.
        state: "whole", "unfinished" (a process that was killed left it, or one is writing it), or what is wrong.
    """

    path: Path
    input: str
    modality: str
    store: str
    values: int | None
    bytes: int
    last_used: float
    in_use: bool
    state: str


def inventory(root: Path) -> list[CacheEntry]:
    """All entries of a cache folder, unfinished ones included, the most recently used one first.

    Raises:
        CacheError: the folder cannot be read.
    """
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        try:
            next(entries_dir(root).iterdir(), None)
        except PermissionError as error:
            raise CacheError(
                f"the cache in {root} cannot be read: {error.strerror}; let MMREG_CACHE_DIR name another folder"
            ) from error
    found = []
    for path in (*entries(root), *under_way(root)):
        with contextlib.suppress(FileNotFoundError):  # it was removed meanwhile
            try:
                found.append(_unfinished(path) if path.suffix else _entry(root, path))
            except OSError as error:
                state = f"it cannot be looked at: {error.strerror or error}"
                found.append(CacheEntry(path, "", "", "", None, 0, 0.0, False, state))
    return sorted(found, key=lambda entry: entry.last_used, reverse=True)


def damage(root: Path, entry: CacheEntry) -> str:
    """What is wrong with a whole entry, all of which is read and compared; nothing if it is as it was written."""
    try:
        meta = read_meta(root, entry.path.name)
        for name in meta["files"] if meta else ():
            checksums = Checksums()
            with open_file(entry.path / name) as file:
                while data := file.read(BLOCK_BYTES):
                    checksums.add(memoryview(data))
            if meta and checksums.checksums() != meta["checksums"][name]:
                return f"{name} is not as it was written"
    except DamagedEntryError as error:
        return str(error)
    except OSError as error:  # what the disk fails to give
        return f"it cannot be read: {error.strerror or error}"
    return ""


def prune(
    root: Path,
    *,
    max_bytes: int | None = None,
    older_than: float | None = None,
    unusable: bool = True,
    dry_run: bool = False,
) -> list[CacheEntry]:
    """Remove entries, never those that a running process uses.

    Args:
        root: the cache folder.
        max_bytes: how large the cache may be: the least recently used entries go until it is no larger.
        older_than: how many seconds ago an entry must have been used last to stay; None for any time.
        unusable: whether unfinished and damaged entries go in any case.
        dry_run: whether all stay.

    Returns:
        What was removed, or would be.
    """
    found = inventory(root)
    total = sum(entry.bytes for entry in found)
    removed = []
    for entry in reversed(found):
        old = older_than is not None and time.time() - entry.last_used > older_than
        large = max_bytes is not None and total > max_bytes
        goes = old or large or (unusable and entry.state != "whole")
        if goes and not entry.in_use and (dry_run or removed_unheld(root, entry.path)):
            removed.append(entry)
            total -= entry.bytes
    if unusable and not dry_run:
        remove_leftovers(root, 0)  # locks that nobody holds, too, which take no room
    return removed


def removed_unheld(root: Path, path: Path) -> bool:
    """Remove an entry, unfinished or not, unless somebody uses it; whether it is gone."""
    with contextlib.suppress(OSError, CacheError):
        if path.suffix:
            lock = abandoned(path)
            if lock is None:
                return False
            with lock:
                remove(path)
                remove(Path(lock.name))
            return not is_folder(path)
        with unheld(path) as free:
            if free:
                discard_entry(root, path.name)
            return free
    return False


def size_limit() -> int | None:
    """How large the cache may be: the environment variable MMREG_CACHE_MAX_SIZE; None for any size.

    Raises:
        OptionError: it is no size.
    """
    chosen = os.environ.get(LIMIT)
    return parse_size(chosen, LIMIT) if chosen else None


def parse_size(text: str, what: str = "a size") -> int:
    """A number of bytes from a text such as "10GB" or "500 MB".

    Raises:
        OptionError: it is no such text.
    """
    return int(_parsed(text, what, SIZES, "10GB"))


def parse_age(text: str, what: str = "an age") -> float:
    """A number of seconds from a text such as "30d", "12h" or "2w".

    Raises:
        OptionError: it is no such text.
    """
    return _parsed(text, what, AGES, "30d")


def _parsed(text: str, what: str, units: dict[str, int], example: str) -> float:
    number = re.fullmatch(r"\s*(\d{1,15}(?:\.\d{1,9})?)\s*([A-Za-z]+)\s*", text)
    unit = next((size for name, size in units.items() if number and name.lower() == number[2].lower()), None)
    if number is None or unit is None:
        raise OptionError(f"{what} must be a number and one of {', '.join(units)}, such as {example}, found {text!r}")
    return float(number[1]) * unit


def _entry(root: Path, path: Path) -> CacheEntry:
    meta: dict[str, Any] = {}
    try:
        meta = read_meta(root, path.name) or {}
        state = "whole"
    except DamagedEntryError as error:
        state = str(error)
    name, modality, store = (str(meta.get(name, "")) for name in ("input", "modality", "store"))
    return CacheEntry(
        path, name, modality, store, meta.get("values"), bytes_of(path), last_used(path), is_held(path), state
    )


def _unfinished(path: Path) -> CacheEntry:
    path.lstat()  # raises where it was removed meanwhile
    return CacheEntry(path, "", "", "", None, bytes_of(path), last_change(path), is_written(path), "unfinished")
