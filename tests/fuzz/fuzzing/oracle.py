"""Judges a case in the process that runs it: a result, an error of mmreg's own, or what must not be."""

from __future__ import annotations

import os
import re
import resource
import sys
import time
from collections.abc import Sequence
from io import FileIO, TextIOWrapper
from pathlib import Path

from fuzzing.cases import CANARY, Case, Failed, Kind, Refused, Verdict

NEVER = re.compile("Traceback \\(most recent call last\\)|an error inside mmreg or a plugin: .*")
NO_MEMORY = re.compile(
    "there is not enough memory|can't allocate memory|cannot allocate|unable to allocate|bad_alloc|alloc of size|"
    "MemoryError|out of memory",
    re.IGNORECASE,
)


class Judge:
    """Runs cases in a folder of its own, with what they print kept in files.

    Args:
        folder: where they run; it is the working directory from now on.
        references: what exact cases give for the original, by kind.
    """

    def __init__(self, folder: Path, references: dict[str, str]) -> None:
        self.folder, self.references = folder, references
        os.chdir(folder)
        os.environ["COLUMNS"] = "120"
        self._printed = [_sent_to(number, folder.parent / f"{folder.name}.{number}") for number in (1, 2)]
        sys.stdout, sys.stderr = (TextIOWrapper(FileIO(n, "w", False), "utf-8", write_through=True) for n in (1, 2))
        sys.stderr.reconfigure(errors="backslashreplace")

    def verdict(self, kind: Kind, case: Case) -> Verdict:
        """What comes of a case."""
        for path in self._printed:
            os.truncate(path, 0)
        started, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        outcome, detail, compared = self._outcome(kind, case)
        errors = self._printed[1].read_text("utf-8", "replace")
        never, hungry = NEVER.search(errors), NO_MEMORY.search(f"{detail}\n{errors}")
        if outcome != "failed" and never:
            outcome, detail = "failed", never[0] + errors[never.end() :][-500:]
        elif outcome != "failed" and hungry:
            outcome, detail = "failed", f"asks for more memory than the limit: {detail or errors}"
        elif outcome != "failed" and (self.folder / CANARY).exists():
            outcome, detail = "failed", "a command in the input was run"
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        return Verdict(outcome, detail[:1500], compared, round(time.process_time() - started, 3), peak * 1024)

    def _outcome(self, kind: Kind, case: Case) -> tuple[str, str, bool]:
        from mmreg.errors import MmregError

        try:
            result = kind.act(case, self.folder)
        except MmregError as error:
            return "refused", str(error), False
        except Refused as error:
            said = self._printed[1].read_text("utf-8", "replace")
            return ("refused", said, False) if said.strip() else ("failed", f"{error} without a message", False)
        except Failed as error:
            return "failed", str(error), False
        except BaseException as error:  # a panic of a Rust extension is none of Exception's
            return "failed", f"{_place(error)}: {type(error).__name__}: {error}", False
        if not case.exact or result is None:
            return "accepted", "", False
        same = result == self.references[f"{kind.name}/{case.original}"]
        return ("accepted", "", True) if same else ("failed", f"damage to {case.original} changes the result", True)


def _sent_to(descriptor: int, path: Path) -> Path:
    """Let a file descriptor of this process lead to a file that can be emptied at any time."""
    file = os.open(path, os.O_CREAT | os.O_RDWR | os.O_APPEND, 0o600)
    os.dup2(file, descriptor)
    os.close(file)
    return path


def _place(error: BaseException) -> str:
    """Where in mmreg an error comes from."""
    place, trace = "?", error.__traceback__
    while trace is not None:
        name = trace.tb_frame.f_code.co_filename
        if "mmreg" in name:
            place = f"{name.rpartition('/mmreg')[2]}:{trace.tb_frame.f_code.co_name}"
        trace = trace.tb_next
    return place


def command(arguments: Sequence[str | Path]) -> None:
    """The command line with these arguments.

    Raises:
        Refused: it left with 1 or 2.
        Failed: it left with another code.
    """
    from mmreg.cli import main

    sys.argv = ["mmreg", *map(str, arguments)]
    try:
        main()
    except SystemExit as leaving:
        if leaving.code in (0, None):
            return
        if leaving.code not in (1, 2):
            raise Failed(f"exit code {leaving.code}") from None
        raise Refused(f"exit code {leaving.code}") from None
