"""Trainings that are killed until they have ended, each in a process that is forked from this one."""

from __future__ import annotations

import contextlib
import difflib
import importlib
import os
import random
import shutil
import signal
import sys
import time
import traceback
from collections import Counter
from pathlib import Path

from kills.job import PHASES, Plan, Told, planned, run

COMPARED = (
    "model.safetensors",
    "metrics.csv",
    "report.json",
    "predictions/validation.parquet",
    "predictions/test.parquet",
)
MOST = 12
"""Kills of one training, after which it is let be."""


class Series:
    """Trainings of one recipe.

    Args:
        folder: with the recipe and its table; runs are written beside them.
        seed: of what is drawn.

    Attributes:
        kills: how many there were.
        failures: what went wrong otherwise.
        differences: between a run that was killed and one that was not.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.draw, self.told = folder, random.Random(seed), Told()
        self.kills = 0
        self.failures: list[str] = []
        self.differences: list[str] = []
        self.at: Counter[tuple[str, str]] = Counter()
        self.points, self.seconds = 1, 1.0

    def whole(self) -> Path:
        """A training that nobody kills; the second of two, which are the same."""
        runs = []
        for name in ("whole", "again"):
            started = time.monotonic()
            code = self._fork(name, Plan())
            self.points, self.seconds = self.told.points, time.monotonic() - started
            self._import_what_it_did()
            assert code == 0, (self.folder / f"{name}.log").read_text(errors="replace")
            runs.append(self.folder / name)
        self.differences += compare(*runs)
        print(f"one training: {self.seconds:.2f} s, {self.points} moments of writing", flush=True)
        return runs[0]

    def _import_what_it_did(self) -> None:
        """Import here what a training has imported, so that the next one need not."""
        for name in (self.folder / "modules").read_text().split():
            with contextlib.suppress(Exception):
                importlib.import_module(name)

    def killed(self, name: str, most: int) -> Path | None:
        """A training that was killed, went on and has ended; None if one of its processes failed by itself."""
        for attempt in range(MOST + 1):
            spared = attempt == MOST or self.kills >= most
            plan = Plan() if spared else planned(self.draw, self.points, self.seconds, attempt == 0)
            code = self._fork(name, plan)
            if code == 0:
                return self.folder / name
            if code != -signal.SIGKILL:
                log = (self.folder / f"{name}.log").read_text(errors="replace")
                self.failures.append(f"{name}, {plan}: exit code {code}\n{log[-2000:]}")
                return None
            self.kills += 1
            self.at["a write" if plan.point is not None else "any moment", self.told.phase] += 1
        raise AssertionError

    def _fork(self, name: str, plan: Plan) -> int:
        """The exit code of a process that trains, which is minus a signal's number if one has ended it."""
        self.told.clear()
        sys.stdout.flush()
        child = os.fork()
        if child:
            _, status = os.waitpid(child, 0)
            code = os.waitstatus_to_exitcode(status)
            if code == 0:
                shutil.rmtree(self.folder / f"{name}-cache", ignore_errors=True)
            return code
        code = 70
        try:
            log = os.open(self.folder / f"{name}.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(log, 1)
            os.dup2(log, 2)
            run(self.folder / name, self.folder / "recipe.yaml", self.folder / f"{name}-cache", plan, self.told)
            code = 0
        except SystemExit as leaving:
            code = int(leaving.code or 0)
        except BaseException:
            traceback.print_exc()
        finally:
            if plan == Plan():
                (self.folder / "modules").write_text("\n".join(sys.modules))
            sys.stdout.flush()
            os._exit(code)

    def summary(self) -> str:
        """A table of the kills."""
        kinds = ("any moment", "a write")
        lines = [f"{'killed while':<12} {kinds[0]:>11} {kinds[1]:>8}"]
        lines += [f"{phase:<12} {self.at[kinds[0], phase]:>11} {self.at[kinds[1], phase]:>8}" for phase in PHASES[:-1]]
        return "\n".join(lines)


def compare(whole: Path, other: Path) -> list[str]:
    """Which files of two runs differ, and what should not be left."""
    problems = [
        f"{name} differs"
        for name in COMPARED
        if not (other / name).is_file() or (whole / name).read_bytes() != (other / name).read_bytes()
    ]
    if "report.json differs" in problems:
        problems += difflib.unified_diff(
            *((each / "report.json").read_text().splitlines() for each in (whole, other)), n=0
        )
    return problems + [f"{path} is left" for path in other.rglob("*.tmp")]
