"""What a whole job takes, from a recipe and files to metrics with nothing cached, beside a script without mmreg."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import pytest
import whole_job

resource = pytest.importorskip("resource")
ROUNDS = 3
LONGEST, MOST_MEMORY = 1.25, 1.2
"""How many times the time and the memory of the script a job may take."""


class Cost(NamedTuple):
    seconds: float
    cpu_seconds: float
    megabytes: float
    accuracy: float


def cost(what: str, folder: Path, tmp: Path) -> Cost:
    """Of one job in a process of its own, without anything in the cache."""
    # As the command line has it, for both: see docs/figures.md.
    environment = {**os.environ, "MMREG_CACHE_DIR": str(tmp / "cache"), "GOMP_SPINCOUNT": "1000"}
    environment.pop("OMP_NUM_THREADS", None)
    started = time.perf_counter()
    with (tmp / "accuracy").open("w+") as output:
        process = subprocess.Popen(
            [sys.executable, whole_job.__file__, what, str(folder), str(tmp / "run")], stdout=output, env=environment
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        output.seek(0)
        accuracy = float(output.read().split()[-1])
    for left in (tmp / "cache", tmp / "run"):
        shutil.rmtree(left, ignore_errors=True)
    return Cost(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, accuracy)


@pytest.mark.bench
def test_a_whole_job_takes_little_more_than_a_script(tmp_path: Path) -> None:
    whole_job.write_data(tmp_path / "data")
    rounds = [[cost(what, tmp_path / "data", tmp_path) for what in ("mmreg", "bare")] for _ in range(ROUNDS)]
    seconds, cpu, memory = ([ours[place] / bare[place] for ours, bare in rounds] for place in range(3))
    ours, bare = rounds[-1]
    print(
        f"\nwhole job, 5,500 pictures and sounds, 3 epochs, beside a script (of {ROUNDS}): "
        f"{statistics.median(seconds):.2f} of its time ({min(seconds):.2f} to {max(seconds):.2f}), "
        f"{statistics.median(cpu):.2f} of its processor time, {statistics.median(memory):.2f} of its memory; "
        f"the last: {ours.seconds:.0f} and {bare.seconds:.0f} s, {ours.megabytes:.0f} and {bare.megabytes:.0f} MB, "
        f"accuracy {ours.accuracy:.2f} and {bare.accuracy:.2f}"
    )
    assert abs(ours.accuracy - bare.accuracy) < 0.15
    assert statistics.median(memory) <= MOST_MEMORY
    assert statistics.median(seconds) <= LONGEST
