"""The moments at which a file is written: each may be told to fail, or to be the last of its process."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from mmreg import files


@contextmanager
def watching(at: Callable[[int, str, Path], None]) -> Iterator[None]:
    """The time in which a function is told of every moment around a write, before it comes.

    Args:
        at: given the moment's number, from 0, what is about to happen ("begin", "sync", "rename", "done"), and the path
            that it happens to; what it raises is raised there. The moments of all threads are in one order.
    """
    counter, lock = itertools.count(), threading.Lock()
    sync, replace, token = files.sync, os.replace, files.secrets.token_hex

    def tell(what: str, path: Any) -> None:
        with lock:
            at(next(counter), what, Path(path))

    def token_hex(*arguments: Any) -> str:
        tell("begin", "")
        return token(*arguments)

    def syncing(path: Path) -> None:
        tell("sync", path)
        sync(path)

    def replacing(source: Any, target: Any, **options: Any) -> None:
        tell("rename", source)
        replace(source, target, **options)
        tell("done", target)

    with (
        mock.patch.object(files.secrets, "token_hex", token_hex),
        mock.patch.object(files, "sync", syncing),
        mock.patch.object(os, "replace", replacing),
    ):
        yield
