"""One writer at a time: a lock on a run's folder, held for as long as it is written."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import platform
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from mmreg.errors import RunError, TrainingError
from mmreg.files import fcntl, unwritable
from mmreg.messages import is_unicode, shown

LOCK = ".lock"
"""The file that is locked; it says who holds it."""
LONGEST = 4096
"""Bytes of it that are read."""


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[Callable[[], None]]:
    """Hold a folder, made if it is not there, as the only one who writes to it.

    What was made for it, and is still there and empty at the end, goes again. The lock ends with its process, however
    that ends.

    Yields:
        What raises a `TrainingError` where the folder is no longer there, or another one by now.

    Raises:
        RunError: it is a file, cannot be written to, or has a name that is not UTF-8; or somebody writes to it
            already: says who.
    """
    why = unwritable(folder / LOCK) if is_unicode(str(folder)) else "its name is not UTF-8"
    if why is not None:
        raise RunError(f"the run cannot be written to {str(folder)!r}: {why}; name another folder")
    absent = [place for place in (folder, *folder.parents) if not place.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    made = [(place, place.stat()) for place in absent]
    try:
        descriptor = _locked(folder)
        try:
            yield partial(_still_held, folder, folder.stat(), descriptor)
        finally:
            if _is_locked_by(folder, descriptor):
                (folder / LOCK).unlink(missing_ok=True)
            os.close(descriptor)
    finally:
        for place, status in made:
            with contextlib.suppress(OSError):  # something is in it
                if os.path.samestat(place.lstat(), status):  # and not what somebody else made in its place
                    place.rmdir()


def writer(folder: Path) -> str:
    """Who writes to a folder just now, in words; empty if nobody does."""
    if fcntl is None:
        return ""
    try:
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return ""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return _holder(descriptor)
    finally:
        os.close(descriptor)
    return ""


def _locked(folder: Path) -> int:
    """The descriptor of the lock's file, which is locked as long as it is open."""
    path = folder / LOCK
    for _ in range(100):
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise RunError(f"{path} is a symbolic link, which no file of a run is; remove it") from error
            raise
        if fcntl is None:
            return descriptor
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _holder(descriptor)
            os.close(descriptor)
            raise RunError(
                f"{str(folder)!r} is being written to by {holder}; wait until it has ended, or name another folder"
            ) from None
        except OSError:  # a file system without locks
            return descriptor
        # Who held it before may have removed the file between our opening and locking it.
        if _is_locked_by(folder, descriptor):
            _sign(descriptor)
            return descriptor
        os.close(descriptor)
    raise RunError(f"{path} cannot be locked: others make and remove it all the time")


def _is_locked_by(folder: Path, descriptor: int) -> bool:
    """Whether the lock's file in a folder is the one that this descriptor has open."""
    try:
        return os.path.samestat(os.fstat(descriptor), (folder / LOCK).stat())
    except FileNotFoundError:
        return False


def _still_held(folder: Path, status: os.stat_result, descriptor: int) -> None:
    if _is_locked_by(folder, descriptor):
        return
    what = ", or what is in it, was removed while this training wrote to it"
    with contextlib.suppress(OSError):  # it is gone
        if not os.path.samestat(folder.stat(), status):
            what = " is another folder now than the one that this training wrote to"
        elif (folder / LOCK).exists():
            what = ", or what is in it, was replaced by another while this training wrote to it"
    raise TrainingError(
        f"the folder {str(folder)!r}{what}; nothing more is written there: begin anew, or go on from a copy by --resume"
    )


def _sign(descriptor: int) -> None:
    facts = {"process": os.getpid(), "machine": platform.node(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
    os.ftruncate(descriptor, 0)
    os.write(descriptor, json.dumps(facts).encode())


def _holder(descriptor: int) -> str:
    """Who has signed, in words."""
    try:
        facts = json.loads(os.pread(descriptor, LONGEST, 0))
        process, machine, since = (shown(facts[key]).strip("'") for key in ("process", "machine", "since"))
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
    here = "this process" if process == str(os.getpid()) and machine == platform.node() else f"process {process}"
    return f"{here} on {machine} (since {since})"
