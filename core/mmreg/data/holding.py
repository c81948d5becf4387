"""Who uses an entry of the cache, and when it was last used: locks and the time of a file in it."""

from __future__ import annotations

import contextlib
import os
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from mmreg.data.cache import META, is_file, is_same
from mmreg.files import fcntl


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
            file = path.open("rb")
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
    """
    path = folder / META
    if fcntl is None or not is_file(path):
        yield True
        return
    with path.open("r+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
        else:
            yield True
