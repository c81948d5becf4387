"""Trainings by two processes, one of which is killed: the command says which, ends, and goes on to the same bits."""

from __future__ import annotations

import os
import random
import re
import selectors
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kills.job import SETTINGS
from kills.series import compare

SIZE = 2
SOON = 30.0
"""Seconds within which a command ends whose process has been killed."""
HANGS = 300.0
"""Seconds after which a command counts as one that never ends."""
LONGER = "training.epochs=12"
EPOCH = re.compile(rb"^epoch +\d", re.MULTILINE)
MOST = 6
"""Kills of one training, after which it is let be."""


@dataclass(frozen=True)
class Kill:
    """When which process is to die: so many seconds after its start, or after the first epoch has ended."""

    rank: int
    trained: bool
    delay: float


@dataclass
class Times:
    """When something happened, in seconds from the start of a command: None for never."""

    begun: float | None = None
    trained: float | None = None
    killed: float | None = None
    ended: float = 0.0


class Together:
    """Trainings of one recipe by two processes.

    Args:
        folder: with the recipe and its table; runs are written beside them.
        seed: of what is drawn.

    Attributes:
        kills: how many there were.
        slowest: the longest time from a kill to the command's end, in seconds.
        failures: what went wrong otherwise.
        differences: between a run of which a process was killed and one that nobody killed.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.draw = folder, random.Random(seed)
        self.kills, self.slowest = 0, 0.0
        self.failures: list[str] = []
        self.differences: list[str] = []
        self.at: Counter[tuple[int, str]] = Counter()
        self.before, self.after = 1.0, 1.0

    def whole(self) -> Path:
        """A training that nobody kills; it also tells how long one takes to its first epoch's end, and from there."""
        code, said, times = self._run("whole")
        assert code == 0, said
        assert times.begun is not None
        assert times.trained is not None
        self.before, self.after = times.trained - times.begun, times.ended - times.trained
        print(f"by {SIZE} processes: {self.before:.1f} s to the first epoch, {self.after:.1f} s from there", flush=True)
        return self.folder / "whole"

    def killed(self, name: str, most: int) -> Path | None:
        """A training that was killed, went on and has ended; None if it failed otherwise."""
        for attempt in range(MOST + 1):
            spared = attempt == MOST or self.kills >= most
            kill = None if spared else self._planned()
            code, said, times = self._run(name, kill)
            if times.killed is None:  # as planned, or it had ended before
                if code:
                    self.failures.append(f"{name}: exit code {code}, although nothing was killed\n{said[-2000:]}")
                return self.folder / name if code == 0 else None
            assert kill is not None
            since = times.ended - times.killed
            self.kills += 1
            self.at[kill.rank, "training" if kill.trained else "starting"] += 1
            self.slowest = max(self.slowest, since)
            where = f"{name}, {kill}: exit code {code}, {since:.1f} s later"
            print(where, flush=True)
            told = f"process {kill.rank} of {SIZE} (0 to {SIZE - 1}) was ended by SIGKILL"
            if code != 1 or told not in said or since > SOON or "Traceback" in said:
                self.failures.append(f"{where}\n{said[-2000:]}")
        raise AssertionError

    def _planned(self) -> Kill:
        trained = self.draw.random() < 0.6
        return Kill(self.draw.randrange(SIZE), trained, self.draw.uniform(0, self.after if trained else self.before))

    def summary(self) -> str:
        """How many kills there were of which process, and how soon the command ended."""
        parts = [f"{count} of process {rank} while {what}" for (rank, what), count in sorted(self.at.items())]
        return f"{', '.join(parts)}; the command ended at most {self.slowest:.1f} s later"

    def _run(self, name: str, kill: Kill | None = None) -> tuple[int, str, Times]:
        """Its exit code, what it said, and when."""
        settings = [text for setting in (*SETTINGS, LONGER) for text in ("--set", setting)]
        recipe, out = self.folder / "recipe.yaml", self.folder / name
        command = [sys.executable, "-m", "mmreg", "train", str(recipe), "--out", str(out), "--resume", *settings]
        env = {
            **os.environ,
            "MMREG_CACHE_DIR": str(self.folder / f"{name}-cache"),
            "MMREG_DISABLE_PLUGINS": "report",
            "PYTHONUNBUFFERED": "1",
            "OMP_NUM_THREADS": "1",
        }
        started, said, times = time.monotonic(), b"", Times()
        process = subprocess.Popen(
            [*command, "--device", "cpu", "--devices", str(SIZE)],
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert process.stdout is not None
        os.set_blocking(process.stdout.fileno(), False)
        with process, selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while True:
                if selector.select(0.01):
                    read = process.stdout.read()
                    if read == b"":
                        break
                    said += read or b""
                now = time.monotonic() - started
                there = dict(workers(process.pid)) if times.begun is None or kill is not None else {}
                if there and times.begun is None:
                    times.begun = now
                if times.trained is None and EPOCH.search(said):
                    times.trained = now
                if kill is not None and times.killed is None:
                    since = times.trained if kill.trained else times.begun
                    if since is not None and now >= since + kill.delay and kill.rank in there:
                        os.kill(there[kill.rank], signal.SIGKILL)
                        times.killed = now
                if now > HANGS:
                    process.kill()
                    said += f"\nno end after {HANGS:.0f} s".encode()
                    break
            code = process.wait()
        times.ended = time.monotonic() - started
        return code, said.decode(errors="replace"), times


def workers(launcher: int) -> Iterator[tuple[int, int]]:
    """The rank and the number of each process that trains, of those that a command has started."""
    for children in Path(f"/proc/{launcher}/task").glob("*/children"):
        for pid in children.read_text().split():
            try:
                environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            except OSError:  # it ends just now
                continue
            ranks = [int(each[5:]) for each in environment if each.startswith(b"RANK=")]
            if ranks:
                yield ranks[0], int(pid)


def kill_together(folder: Path, kills: int, seed: int) -> list[str]:
    """Kill one of two processes so many times; what went wrong, or came to something else."""
    together = Together(folder, seed)
    whole = together.whole()
    number = 0
    while together.kills < kills:
        number += 1
        run = together.killed(f"together{number}", kills)
        if run is not None:
            together.differences += [f"{run.name}: {text}" for text in compare(whole, run)]
    print(f"{number} trainings by {SIZE} processes, {together.kills} kills: {together.summary()}", flush=True)
    return [*together.failures, *together.differences]
