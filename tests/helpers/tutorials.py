"""A page whose blocks are run in their order, as a reader would, and whose outputs are compared with what it shows.

- A block of Python runs in the names that the blocks before it left; after a line `<!-- file: NAME -->` a block of any
  kind is written to that file instead.
- A block of console commands runs `mmreg ...` and `python FILE` in this process, one line a command. A trailing `&`
  starts the command in a process of its own, until the page's end, and waits for its port.
- A block of text is what the block before it printed: all of it, with `...` for what differs from run to run, and any
  number of blanks for any other.
- A block of sh is read only: what needs a cluster, a browser or another program.
"""

from __future__ import annotations

import contextlib
import doctest
import io
import os
import re
import runpy
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

BLOCK = re.compile(r"^(?:<!-- file: (\S+) -->\n)?```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SAME = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
PORT = 8000
"""The port that pages name; a free one takes its place."""


@dataclass(frozen=True)
class Block:
    """A fenced block of a page: its language, its text, the file that it is, and the line that it begins in."""

    language: str
    text: str
    file: str
    line: int


def blocks(page: str) -> list[Block]:
    """The fenced blocks of a page, in their order."""
    return [
        Block(found[2], found[3], found[1] or "", page.count("\n", 0, found.start(2)) + 1)
        for found in BLOCK.finditer(page)
    ]


class Reader:
    """Somebody who does what a page says, in the working directory.

    Args:
        page: the path of the page.
        monkeypatch: sets the command's arguments, and the terminal's width.
    """

    def __init__(self, page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.page, self.monkeypatch = page, monkeypatch
        self.names: dict[str, Any] = {"__name__": page.stem}
        self.processes: list[subprocess.Popen[bytes]] = []
        self.port = free_port()
        monkeypatch.setenv("COLUMNS", "120")

    def run(self) -> None:
        """Do it all, and compare every output that the page shows."""
        printed = ""
        try:
            for block in blocks(self.page.read_text(encoding="utf-8")):
                if block.language == "sh":
                    continue
                where = f"{self.page.name}, line {block.line}"
                if block.file:
                    path = Path(block.file)
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_text(block.text, encoding="utf-8")
                elif block.language == "text":
                    check(block.text, printed, where)
                else:
                    printed = self.done(block, where)
        finally:
            for process in self.processes:
                process.terminate()
                process.wait(timeout=30)

    def done(self, block: Block, where: str) -> str:
        """What a block prints."""
        text = block.text.replace(f"{PORT}", f"{self.port}")
        with printing() as printed:
            if block.language == "python":
                exec(compile(text, where, "exec", dont_inherit=True), self.names)
            elif block.language == "console":
                for line in text.replace("\\\n", " ").splitlines():
                    self.command(shlex.split(line, comments=True), f"{where}: {line}: {printed.getvalue()[-2000:]}")
            else:
                raise AssertionError(f"{where}: a block of {block.language} is no file, no code and no output")
        return printed.getvalue().replace(f"{self.port}", f"{PORT}")

    def command(self, words: list[str], where: str) -> None:
        """Run a line of a console block."""
        if not words:
            return
        if words[-1] == "&":
            assert words[0] == "mmreg", where
            self.processes.append(subprocess.Popen([sys.executable, "-m", *words[:-1]], stderr=subprocess.DEVNULL))
            wait_for(self.port, self.processes[-1])
            return
        self.monkeypatch.setattr(sys, "argv", words if words[0] == "mmreg" else words[1:])
        code: Any = None
        try:
            if words[0] == "mmreg":
                from mmreg.cli import main

                main()
            else:
                assert words[0] == "python", where
                runpy.run_path(words[1], run_name="__main__")
        except SystemExit as leaving:
            code = leaving.code
        assert not code, where


def check(shown: str, printed: str, where: str) -> None:
    """Compare what a page shows with what was printed."""
    checker = doctest.OutputChecker()
    if not checker.check_output(shown, printed, SAME):
        example = doctest.Example("", shown)
        raise AssertionError(f"{where}:\n{checker.output_difference(example, printed, SAME)}")


@contextlib.contextmanager
def printing() -> Iterator[io.StringIO]:
    """What is printed meanwhile, errors included, in the order in which a terminal shows it."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        yield printed


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    """Until a process listens at the port."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        assert process.poll() is None, f"it has ended with {process.returncode}"
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        os.sched_yield()
    raise AssertionError(f"nobody listens at {port}")
