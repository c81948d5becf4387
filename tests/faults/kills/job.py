"""The training that is killed, and in the process that is to die, what kills it."""

from __future__ import annotations

import mmap
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kills.points import watching

PHASES = ("starting", "preparing", "training", "validating", "writing", "measuring", "ended")
SETTINGS = (
    *("training.epochs=3", "training.batch_size=8", "training.deterministic=true", "training.modality_dropout=0.2"),
    *("training.checkpoint={minutes: null, steps: 1}", "fusion=stacking"),
)


@dataclass(frozen=True)
class Plan:
    """When a process is to die.

    Attributes:
        point: at which write, counted from its start; None for none.
        phase: in which of `PHASES`, when it is entered for the `entry`th time, and `delay` seconds later.
    """

    point: int | None = None
    phase: str = ""
    entry: int = 1
    delay: float = 0.0


class Told:
    """What a process that dies leaves in memory that it shares: its phase, and how many writes it made."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 16)

    def clear(self) -> None:
        self._memory[:] = bytes(16)

    @property
    def phase(self) -> str:
        return PHASES[self._memory[0]]

    @phase.setter
    def phase(self, name: str) -> None:
        self._memory[0] = PHASES.index(name)

    @property
    def points(self) -> int:
        return int.from_bytes(self._memory[8:12], "little")

    @points.setter
    def points(self, number: int) -> None:
        self._memory[8:12] = number.to_bytes(4, "little")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def run(folder: Path, recipe: Path, cache: Path, plan: Plan, told: Told) -> None:
    """Train by the command line, in a process of its own that may die of it."""
    os.environ |= {"MMREG_CACHE_DIR": str(cache), "MMREG_DISABLE_PLUGINS": "report"}
    settings = [text for setting in SETTINGS for text in ("--set", setting)]
    sys.argv = ["mmreg", "train", str(recipe), "--out", str(folder), "--device", "cpu", "--resume", *settings]
    entries = dict.fromkeys(PHASES, 0)

    def entered(phase: str) -> None:
        told.phase = phase
        entries[phase] += 1
        if (plan.phase, plan.entry) == (phase, entries[phase]):
            threading.Thread(target=lambda: (time.sleep(plan.delay), die()), daemon=True).start()

    def at(number: int, what: str, path: Path) -> None:
        told.points = number + 1
        if number == plan.point:
            if (
                what == "sync" and path.is_file() and path.stat().st_nlink == 1
            ):  # as if only half of it were on the disk
                os.truncate(path, path.stat().st_size // 2)
            die()

    _watch_phases(entered, told)
    entered("starting")
    from mmreg.cli import main

    with watching(at) if plan.point is not None or not plan.phase else nullcontext():
        main()
    told.phase = "ended"


def _watch_phases(entered: Callable[[str], None], told: Told) -> None:
    from mmreg.training import saving, session
    from mmreg.training.loop import Trainer
    from mmreg.training.validation import Validation

    def within(place: Any, name: str, phase: str) -> None:
        function = getattr(place, name)

        def both(*arguments: Any, **options: Any) -> Any:
            before = told.phase
            entered(phase)
            result = function(*arguments, **options)
            told.phase = before
            return result

        setattr(place, name, both)

    within(session, "prepare_all", "preparing")
    within(Trainer, "_train_epoch", "training")
    within(Validation, "__call__", "validating")
    within(saving, "save_checkpoint", "writing")
    within(session.Session, "_report", "measuring")


def planned(draw: random.Random, points: int, seconds: float, first: bool) -> Plan:
    """When the next process is to die: at a write, or in some phase and a little later.

    Args:
        draw: what to draw from.
        points: how many writes a training has.
        seconds: how long it takes.
        first: whether nothing is prepared yet.
    """
    if draw.random() < 0.4:
        return Plan(point=draw.randrange(points))
    phase = "preparing" if first and draw.random() < 0.4 else draw.choice(PHASES[:-1])
    entry = draw.randint(1, 3) if phase in ("training", "validating", "writing") else 1  # the others come once
    return Plan(phase=phase, entry=entry, delay=draw.uniform(0, seconds if phase == "starting" else seconds / 20))
