"""The cache folder: where it is, how large it is, clearing it, and removing what killed processes left."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import stat
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from mmreg.files import cache_dir as cache_dir  # plugins find it there, as they must not name this room
from mmreg.files import fcntl

STALE_SECONDS = 24 * 3600
KEPT_SECONDS = 7 * 24 * 3600
"""How long what a killed process left is kept for one that goes on with it."""
META = "meta.json"
"""In an entry, the file that says what its other files hold."""
JOURNAL = "journal.txt"
"""In an entry under way, the file that says what of it is done."""
_ENTRY = re.compile(r"[0-9a-f]{40}")
_UNDER_WAY = re.compile(r"[0-9a-f]{40}-[0-9a-f]{8}\.(tmp|lock)")


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
    return CacheUse(len(found), sum(map(bytes_of, found)))


def bytes_of(entry: Path) -> int:
    """The bytes of an entry's files."""
    total = 0
    for path in listing(entry) if is_folder(entry) else [entry]:
        with contextlib.suppress(OSError):  # it vanished, or is not ours to look at
            total += path.lstat().st_size
    return total


def clear_cache(root: Path) -> CacheUse:
    """Remove every prepared column that nobody is writing just now, of whatever release; returns what was there."""
    use = cache_use(root)
    for entry in entries(root):
        remove(entry)
    remove_leftovers(root, 0)
    return use


def remove_leftovers(root: Path, kept_seconds: float = KEPT_SECONDS) -> None:
    """Remove what processes that were killed left half written, less what a later one can go on with.

    Args:
        root: the cache folder.
        kept_seconds: how long the latter is kept after its last change.
    """
    for path in listing(entries_dir(root)):
        if _UNDER_WAY.fullmatch(path.name) and not _can_go_on(path.with_suffix(".tmp"), kept_seconds):
            _remove_if_abandoned(path)


def remainders(root: Path) -> list[Path]:
    """The folders of entries under way of which some values are done, whether anybody writes them or not."""
    return [path for path in under_way(root) if is_begun(path)]


def under_way(root: Path) -> list[Path]:
    """Whatever has the name of the folder of an entry under way."""
    return [path for path in listing(entries_dir(root)) if _UNDER_WAY.fullmatch(path.name) and path.suffix == ".tmp"]


def is_begun(folder: Path) -> bool:
    """Whether some values are done of an entry under way; the journal's first line waits for the second one."""
    journal = folder / JOURNAL
    return is_folder(folder) and is_file(journal) and journal.lstat().st_size > 0


def last_change(folder: Path) -> float:
    """When something was last written into an entry under way."""
    times = [0.0]
    for path in (folder, folder / JOURNAL) if is_folder(folder) else (folder,):
        with contextlib.suppress(OSError):
            times.append(path.lstat().st_mtime)
    return max(times)


def _can_go_on(folder: Path, kept_seconds: float) -> bool:
    """Whether a process may still go on with an entry under way: some of it is done lately, and nobody finished it."""
    if not is_begun(folder) or folder.with_name(folder.name[:40]).exists():
        return False
    return time.time() - last_change(folder) < kept_seconds


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


def is_file(path: Path) -> bool:
    """Whether a file is there; a link to one is none, nor is what must not be opened."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False


def open_regular(path: Path, mode: str) -> IO[Any]:
    """Open a file of the cache; never a link, and nothing that would keep who opens it waiting.

    Raises:
        OSError: it is a link, a FIFO, a device or a folder, or cannot be opened.
    """
    encoding = None if "b" in mode else "utf-8"
    return open(path, mode, encoding=encoding, opener=_descriptor)


def _descriptor(path: str, flags: int) -> int:
    """The descriptor of a regular file; only of what is open can nobody make something else meanwhile."""
    careful = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    descriptor = os.open(path, flags | careful, 0o666)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    return descriptor


def locked(path: Path) -> IO[str]:
    """A file that is locked as long as it is open, so that others see whether its writer lives."""
    while True:
        file = open_regular(path, "w")
        if fcntl is None:
            return file
        fcntl.flock(file, fcntl.LOCK_EX)
        if is_same(file, path):
            return file
        file.close()  # somebody took it for a leftover before it was locked


def is_same(file: IO[Any], path: Path) -> bool:
    """Whether an open file is still the one that has this name."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.lstat())
    except FileNotFoundError:
        return False


def abandoned(folder: Path) -> IO[str] | None:
    """The lock of an entry under way, locked, if nobody writes that any more; None if somebody does.

    Raises:
        OSError: the lock cannot be written.
    """
    path = folder.with_suffix(".lock")
    if fcntl is None:
        if time.time() - last_change(folder) < STALE_SECONDS:
            return None
        return _lock_file(path)
    file = _lock_file(path)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if is_same(file, path):
            return file
    except OSError:
        pass
    file.close()
    return None


def is_written(folder: Path) -> bool:
    """Whether somebody writes an entry under way; others who ask at the same time are not taken for writers."""
    if fcntl is None:
        return time.time() - last_change(folder) < STALE_SECONDS
    with contextlib.suppress(OSError), open_regular(folder.with_suffix(".lock"), "r") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _lock_file(path: Path) -> IO[str]:
    """A lock's file, made if it is not there; what is in its place and no file is nobody's, and goes."""
    try:
        return open_regular(path, "a")
    except OSError:
        if is_file(path):
            raise
        remove(path)
        return open_regular(path, "a")


def _remove_if_abandoned(path: Path) -> None:
    """Remove a folder under way, and its lock, if nobody writes it any more; `path` is either of the two."""
    folder = path.with_suffix(".tmp")
    with contextlib.suppress(OSError):
        lock = abandoned(folder)
        if lock is not None:
            with lock:  # while both are removed: so a writer that waits for it sees that it is gone
                remove(folder)
                remove(Path(lock.name))


def listing(folder: Path) -> list[Path]:
    """What is in a folder; nothing if it cannot be read."""
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []
