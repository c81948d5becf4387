"""Locks of files: which process has which trial, and that one at a time changes the study.

They end with their process, however that ends. Where there are none (Windows), one process at a time may search.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmreg.files import fcntl


@contextmanager
def waited_for(path: Path) -> Iterator[None]:
    """Hold a lock, after whoever has it."""
    descriptor = _opened(path)
    try:
        if fcntl is not None:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def taken(path: Path) -> int | None:
    """The descriptor of a lock, which is held until that is closed; None if somebody has it."""
    descriptor = _opened(path)
    try:
        if fcntl is not None:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _opened(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
