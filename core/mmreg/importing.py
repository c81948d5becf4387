"""Running other people's code: importing what a text names, with all that it prints or raises contained."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import threading
from types import ModuleType
from typing import Any

from mmreg.errors import MmregError
from mmreg.messages import near, one_line


def import_target(target: str) -> Any:
    """What a text such as "package.module" or "package.module:Class" names; imported with stdout kept clean.

    Raises:
        ImportError: for whatever it raises, `sys.exit` included; the message reads on after what the target is for,
            such as "needs the package 'onnx', which is not installed".
    """
    module, _, attribute = target.replace(" ", "").partition(":")
    try:
        with stdout_to_stderr:
            return _attribute(importlib.import_module(module), attribute)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # sys.exit, a panic of a Rust extension, a test runner's skip
        raise ImportError(_reason(error, module)) from error


def _attribute(module: ModuleType, path: str) -> Any:
    found: Any = module
    for name in filter(None, path.split(".")):
        if not hasattr(found, name):
            raise MmregError(f"{module.__name__} has no {name!r}{near(name, dir(found))}")
        found = getattr(found, name)
    return found


def _reason(error: BaseException, module: str) -> str:
    if not isinstance(error, ModuleNotFoundError) or not error.name:
        return f"cannot be imported: {one_line(error)}"
    missing = error.name
    package = missing.partition(".")[0]
    if package == module.partition(".")[0]:
        what = "its target" if module == missing or module.startswith(f"{missing}.") else f"{module} imports it"
        return f"names a module that does not exist: {missing!r} ({what}; is it misspelt?)"
    if package in sys.modules:
        return f"needs the module {missing!r}, which the installed {package!r} does not have (another version?)"
    return f"needs the package {missing!r}, which is not installed"


class _StdoutToStderr:
    """Sends stdout to stderr while any thread is inside; the first one in does it, the last one out undoes it.

    No lock is held inside, as imports take locks of their own.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._undo = contextlib.ExitStack()

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._undo = _redirect()
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._undo.close()


stdout_to_stderr = _StdoutToStderr()
"""Keeps stdout clean of what plugins print, by `print`, by the file descriptor or from a process that they start."""


def _redirect() -> contextlib.ExitStack:
    undo = contextlib.ExitStack()
    undo.enter_context(contextlib.redirect_stdout(sys.stderr))
    with contextlib.suppress(OSError):  # a process without descriptors, such as a service
        _flush()
        saved = os.dup(1)
        undo.callback(_restore, saved)
        if sys.__stderr__ is not None:
            os.dup2(2, 1)
        else:  # descriptor 2 may be anything then
            sink = os.open(os.devnull, os.O_WRONLY)
            os.dup2(sink, 1)
            os.close(sink)
    return undo


def _restore(saved: int) -> None:
    _flush()
    os.dup2(saved, 1)
    os.close(saved)


def _flush() -> None:
    """Write what is buffered to where it belonged when it was printed."""
    with contextlib.suppress(Exception):  # it may be missing, closed, or a pipe that nobody reads
        if sys.__stdout__ is not None:
            sys.__stdout__.flush()
