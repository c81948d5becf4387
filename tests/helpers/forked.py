"""Processes that start as forks of one that has imported what trainings import, which takes longer than they do.

They are for tests of what a process does: streams, exit codes, signals, kills, what it leaves behind. Where a test is
about its start, use `subprocess`: what is imported and when, whether a clean interpreter does it, flags of Python,
variables that Python, torch or an allocator reads at the start, threads, which process is whose parent; and where two
are to differ in how they order sets. Of each command that is tested as a process, one test starts it as users do.
"""

from __future__ import annotations

import atexit
import functools
import gc
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
import threading
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

IMPORTED = ("torch._dynamo", "pandas", "matplotlib.figure", "mmreg.cli.train", "mmreg.runs")
TESTS = str(Path(__file__).resolve().parent.parent)
ROOT = str(Path(TESTS).parent)


@functools.cache
def _context() -> Any:
    """Of the process that is forked, which the first test that needs it starts, and which ends with this one."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        import pytest  # which the processes need not import

        pytest.skip("needs fork")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(IMPORTED))
    return context


class _Stream:
    """A file descriptor that the process gets a copy of."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __reduce__(self) -> tuple[object, ...]:
        from multiprocessing.reduction import DupFd

        return _detach, (DupFd(self.number),)


def _detach(duplicate: Any) -> int:
    return int(duplicate.detach())


class Popen:
    """A process that is running, with the parts of `subprocess.Popen` that tests use.

    Args:
        arguments: what would follow Python's name: `-m` and a module, `-c` and code, or a script; and its arguments.
        cwd: the folder to run in; this process's if absent.
        env: all environment variables; this process's if absent.
        together: stderr goes where stdout goes.
        terminal: a file descriptor that is to be stdin, stdout and stderr; else stdout and stderr are kept for
            `stdout` and `communicate`, and there is nothing in stdin.
    """

    def __init__(
        self,
        arguments: Sequence[str | Path],
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        *,
        together: bool = False,
        terminal: int | None = None,
    ) -> None:
        self._stderr = tempfile.TemporaryFile("w+")  # noqa: SIM115
        read, write = os.pipe()
        self.stdout = os.fdopen(read)
        with Path(os.devnull).open() as nothing, os.fdopen(write, "w"):
            streams = [nothing.fileno(), write, write if together else self._stderr.fileno()]
            streams = streams if terminal is None else [terminal] * 3
            words, variables = list(map(str, arguments)), dict(os.environ if env is None else env)
            told = (words, os.fspath(cwd or Path.cwd()), variables, list(map(_Stream, streams)))
            self._process = _context().Process(target=_python, args=told)
            self._process.start()
        self.pid: int = self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit code, or minus the signal that ended it; None while it runs."""
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        """Send a signal."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """End it without warning."""
        self._process.kill()

    def communicate(self, timeout: float = 120) -> tuple[str, str]:
        """The rest of stdout, and stderr, when it has ended; it is killed after some seconds."""
        killing = threading.Timer(timeout, self._process.kill)
        killing.start()
        try:
            with self.stdout, self._stderr:
                said = self.stdout.read()
                self._process.join()
                self._stderr.seek(0)
                return said, self._stderr.read()
        finally:
            killing.cancel()


def run(
    arguments: Sequence[str | Path], cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a process to its end, as `subprocess.run` does with `capture_output` and `text`."""
    process = Popen(arguments, cwd, env)
    out, err = process.communicate()
    return subprocess.CompletedProcess(arguments, process.returncode, out, err)


def _python(arguments: list[str], cwd: str, env: dict[str, str], streams: list[int]) -> None:
    """What the process does: become what `python ARGUMENTS` would be."""
    gc.freeze()  # what has been imported is neither looked through nor copied
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    sys.stdin, sys.stdout = os.fdopen(0, closefd=False), os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", 1, errors="backslashreplace", closefd=False)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    what, *rest = arguments
    first = "" if what in ("-m", "-c") else str(Path(what).parent)
    sys.path[:] = [first, *(each for each in sys.path if each not in ("", ROOT) and not each.startswith(TESTS))]
    sys.argv[:] = [what, *(rest[1:] if first == "" else rest)]
    try:
        if what == "-m":
            runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
        elif what == "-c":
            main = sys.modules["__main__"] = types.ModuleType("__main__")
            exec(rest[0], vars(main))
        else:
            runpy.run_path(what, run_name="__main__")
    finally:
        atexit._run_exitfuncs()
