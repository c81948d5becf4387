"""Who uses an entry of the cache, and when it was last used: locks and the time of a file in it."""

from __future__ import annotations

import contextlib
import errno
import os
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from mmreg.data.cache import META, is_file, is_same, open_regular
from mmreg.files import fcntl

TRIES = 5
"""How often an entry is found locked before it is taken for held: who only asks locks it for an instant, too."""


class Held:
    """An entry that is used as long as this is there.

    Args:
        file: one of its files, open and locked, which is closed with this.
    """

    def __init__(self, file: IO[bytes]) -> None:
        weakref.finalize(self, file.close)


def hold(folder: Path) -> Held | None:
    """Say that an entry is used now, and go on saying so as long as what this gives is there.

    Returns:
        None if there is no such entry.
    """
    path = folder / META
    with contextlib.suppress(OSError):
        while is_file(path):
            file = open_regular(path, "rb")
            held = Held(file)
            with contextlib.suppress(OSError):  # a file system without locks
                if fcntl is not None:
                    fcntl.flock(file, fcntl.LOCK_SH)
            if is_same(file, path):  # it was not removed before it was locked
                with contextlib.suppress(OSError):  # a folder that can only be read
                    os.utime(path)
                return held
    return None


def last_used(folder: Path) -> float:
    """When an entry was last opened, in seconds since 1970."""
    path = folder / META
    return (path if is_file(path) else folder).lstat().st_mtime


@contextlib.contextmanager
def unheld(folder: Path) -> Iterator[bool]:
    """Whether nobody holds an entry; within the block nobody can begin to.

    Where the system has no locks nobody is known to; there a folder whose files are open cannot be renamed.

    Raises:
        OSError: what would tell cannot be opened.
    """
    path = folder / META
    if fcntl is None or not is_file(path):
        yield True
        return
    with _opened(path) as file:
        yield _locks(file)


def is_held(folder: Path) -> bool:
    """Whether somebody holds an entry, as far as that can be told."""
    with contextlib.suppress(OSError), unheld(folder) as free:
        return not free
    return False


def _opened(path: Path) -> IO[bytes]:
    """A file to lock: some network file systems ask for one that can be written, but a cache may only be read."""
    try:
        return open_regular(path, "r+b")
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        return open_regular(path, "rb")


def _locks(file: IO[bytes]) -> bool:
    """Lock a file for its own process alone; whether that can be done."""
    for tried in range(TRIES):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if tried + 1 < TRIES:
                time.sleep(0.001 * 2**tried)
        except OSError:  # a file system without locks
            return False
        else:
            return True
    return False
