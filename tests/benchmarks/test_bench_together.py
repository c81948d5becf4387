"""Two processes with one thread each train nearly twice as many rows a second as one process with one thread."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from harness import interleaved, record
from together import BATCH, ROWS
from trained_together import start

ROUNDS = 9
STEP = 0.05
"""Seconds that a step of one process takes at least: of a short one, more is spent on agreeing."""


@contextmanager
def training(size: int) -> Iterator[Callable[[], float]]:
    """A training by so many processes; what is called trains an epoch, and gives the seconds of the slowest one."""
    script = str(Path(__file__).with_name("together.py"))
    env = {"PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
    with ExitStack() as stack:
        processes = [stack.enter_context(each) for each in start(size, [script], env, stdin=subprocess.PIPE)]

        def answers() -> list[str]:
            return [each.stdout.readline() for each in processes if each.stdout is not None]

        def epoch() -> float:
            for each in processes:
                assert each.stdin is not None
                each.stdin.write("\n")
                each.stdin.flush()
            return max(float(json.loads(each)["seconds"]) for each in answers())

        try:
            assert answers() == ["ready\n"] * size
            yield epoch
        finally:
            for each in processes:
                each.kill()


@pytest.mark.bench
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="two processes need two cores")
def test_two_processes_train_nearly_twice_as_fast_as_one() -> None:
    with training(2) as together, training(1) as alone:
        pairs = interleaved(together, alone, rounds=ROUNDS)
    assert min(seconds for _, seconds in pairs) >= STEP * ROWS / BATCH
    record("training by 2 processes", "by one", [one / two for two, one in pairs], at_least=1.7)
