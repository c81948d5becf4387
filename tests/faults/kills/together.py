"""Trainings by two processes, one of which is killed: the command says which, ends soon, and goes on to the same bits."""

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
from collections.abc import Callable, Iterator
from pathlib import Path

from kills.job import SETTINGS
from kills.series import compare

SIZE = 2
SOON = 30.0
"""Seconds within which a command ends whose process has been killed."""
HANGS = 300.0
"""Seconds after which a command counts as one that never ends."""
LONGER = "training.epochs=12"
MOST = 6
"""Kills of one training, after which it is let be."""


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
        self.kills, self.slowest, self.tries = 0, 0.0, 0
        self.failures: list[str] = []
        self.differences: list[str] = []
        self.at: Counter[tuple[int, str]] = Counter()
        self.before, self.after = 1.0, 1.0

    def whole(self) -> Path:
        """A training that nobody kills; it also tells how long one takes, before its first step and after."""
        started = time.monotonic()
        begun: list[float] = []
        code, said, _ = self._run("whole", lambda: bool(begun.append(time.monotonic())))
        assert code == 0, said
        self.before, self.after = begun[0] - started, time.monotonic() - begun[0]
        print(f"by {SIZE} processes: {self.before:.1f} s to the first epoch, {self.after:.1f} s from there", flush=True)
        return self.folder / "whole"

    def killed(self, name: str, most: int) -> Path | None:
        """A training that was killed, went on and has ended; None if it failed otherwise."""
        for attempt in range(MOST + 1):
            if attempt == MOST or self.kills >= most:
                code, said, _ = self._run(name)
                if code:
                    self.failures.append(f"{name}: going on: exit code {code}\n{said[-2000:]}")
                return self.folder / name if code == 0 else None
            rank, trained = self.draw.randrange(SIZE), self.draw.random() < 0.6
            delay = self.draw.uniform(0, self.after if trained else self.before)
            code, said, since = self._run(name, None, rank, delay, trained=trained)
            where = f"{name}, process {rank}, {delay:.2f} s after {'the first epoch' if trained else 'its start'}"
            if since is None:  # it had ended before
                if code:
                    self.failures.append(f"{where}: exit code {code}, although nothing was killed\n{said[-2000:]}")
                return self.folder / name if code == 0 else None
            self.kills += 1
            self.at[rank, "training" if trained else "starting"] += 1
            self.slowest = max(self.slowest, since)
            print(f"{where}: exit code {code}, {since:.1f} s later", flush=True)
            told = f"process {rank} of {SIZE} (0 to {SIZE - 1}) was ended by SIGKILL"
            if code != 1 or told not in said or since > SOON or "Traceback" in said:
                self.failures.append(f"{where}: exit code {code} after {since:.1f} s\n{said[-2000:]}")
        raise AssertionError

    def summary(self) -> str:
        """How many kills there were of which process, and how soon the command ended."""
        parts = [f"{count} of process {rank} while {what}" for (rank, what), count in sorted(self.at.items())]
        return f"{', '.join(parts)}; the command ended at most {self.slowest:.1f} s later"

    def _run(
        self,
        name: str,
        at_epoch: Callable[[], bool] | None = None,
        rank: int | None = None,
        delay: float = 0.0,
        *,
        trained: bool = False,
    ) -> tuple[int, str, float | None]:
        """Its exit code, what it said, and the seconds from the kill to its end; None without a kill."""
        settings = [text for setting in (*SETTINGS, LONGER) for text in ("--set", setting)]
        command = [
            *(
                sys.executable,
                "-m",
                "mmreg",
                "train",
                str(self.folder / "recipe.yaml"),
                "--out",
                str(self.folder / name),
            ),
            *("--device", "cpu", "--devices", str(SIZE), "--resume", *settings),
        ]
        env = {
            **os.environ,
            "MMREG_CACHE_DIR": str(self.folder / f"{name}-cache"),
            "MMREG_DISABLE_PLUGINS": "report",
            "PYTHONUNBUFFERED": "1",
            "OMP_NUM_THREADS": "1",
        }
        process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert process.stdout is not None
        os.set_blocking(process.stdout.fileno(), False)
        said, due, killed = b"", None if rank is None or trained else 0.0, None
        started = time.monotonic()
        with process, selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while True:
                if selector.select(0.01):
                    read = process.stdout.read()
                    if read == b"":
                        break
                    said += read or b""
                if at_epoch is not None and re.search(rb"^epoch +1 ", said, re.MULTILINE):
                    at_epoch = at_epoch() or None
                now = time.monotonic()
                if rank is not None and killed is None:
                    if due is None and re.search(rb"^epoch +\d", said, re.MULTILINE):
                        due = now + delay
                    elif due == 0.0 and rank in dict(workers(process.pid)):
                        due = now + delay
                    elif due and now >= due:
                        pid = dict(workers(process.pid)).get(rank)
                        if pid is None:  # it has ended already
                            rank = None
                        else:
                            os.kill(pid, signal.SIGKILL)
                            killed = now
                if now - started > HANGS:
                    process.kill()
                    said += f"\nno end after {HANGS:.0f} s".encode()
                    break
            code = process.wait()
        ended = time.monotonic()
        return code, said.decode(errors="replace"), None if killed is None else ended - killed


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
