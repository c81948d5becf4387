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
from harness import record
from together import STEPS
from trained_together import start

ROUNDS = 9
STEP = 0.05
"""Seconds that a step of one process takes at least: of a short one, more is spent on agreeing."""


@contextmanager
def training(size: int, batch: int, apart: bool = False) -> Iterator[Callable[[], float]]:
    """A training by so many processes, or one by each; a call trains an epoch, and gives the slowest's seconds."""
    script = str(Path(__file__).with_name("together.py"))
    env = {"PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
    with ExitStack() as stack:
        sizes = [1] * size if apart else [size]
        started = [each for one in sizes for each in start(one, [script, str(batch)], env, stdin=subprocess.PIPE)]
        processes = [stack.enter_context(each) for each in started]

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
@pytest.mark.parametrize("batch", [128, 256])
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="two processes need two cores")
def test_two_processes_train_nearly_twice_as_fast_as_one(batch: int) -> None:
    """What two that know nothing of each other come to, at the same moments, is what the machine gives.

    With the more rows in a step, the less is spent on agreeing, and half of them fit better into a core's cache.
    """
    rounds: list[dict[str, float]] = []
    with training(2, batch) as together, training(2, batch, apart=True) as apart, training(1, batch) as alone:
        ways = {"together": together, "apart": apart, "alone": alone}
        for number in range(ROUNDS + 1):
            order = [*ways][number % 3 :] + [*ways][: number % 3]
            rounds.append({name: ways[name]() for name in order})
    del rounds[0]  # which warms up
    assert min(each["alone"] for each in rounds) >= STEP * STEPS
    what = f"{batch} rows a step: "
    record(f"{what}two trainings apart", "one", [2 * each["alone"] / each["apart"] for each in rounds], at_least=1.0)
    shares = [each["apart"] / (2 * each["together"]) for each in rounds]
    record(f"{what}training by 2 processes, of two apart", "two trainings apart", shares, at_least=0.7)
    record(
        f"{what}training by 2 processes", "by one", [each["alone"] / each["together"] for each in rounds], at_least=1.7
    )
