"""Measures a step of every operator beside one of `concat`, and writes measured.json."""

from __future__ import annotations

import datetime
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from mmreg import registry

HERE = Path(__file__).parent
MEASURED = HERE / "measured.json"
sys.path += [str(HERE.parents[1] / "tests" / each) for each in ("helpers", "benchmarks")]

import harness  # noqa: E402
import test_bench_fusion as bench  # noqa: E402  # the sizes and steps are those of `make bench`

ROUNDS = 9


def milliseconds(run: Callable[[], None]) -> float:
    """The processor's time of one run, over at least 30 ms."""
    repeats, started = 0, time.process_time()
    while repeats < 2 or time.process_time() - started < 0.03:
        run()
        repeats += 1
    return (time.process_time() - started) / repeats * 1000


def measure(name: str) -> dict[str, float]:
    """The medians over rounds, in which the operator and `concat` take turns."""
    steps = [bench.step(*bench.calls(each)[::2]) for each in (name, "concat")]
    for step in steps:
        step()
    rounds = [[milliseconds(step) for step in steps] for _ in range(ROUNDS)]
    ratio = statistics.median(mine / other for mine, other in rounds)
    return {
        "milliseconds": float(f"{statistics.median(mine for mine, _ in rounds):.3g}"),
        "ratio": float(f"{ratio:.3g}"),
    }


def main() -> None:
    """Write the file."""
    torch.set_num_threads(1)
    written = {
        "machine": harness.machine(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "sizes": {"B": bench.B, "M": bench.M, "D": bench.D, "T": bench.T, "K": bench.K},
        "options": bench.OPTIONS,
        "operators": {name: measure(name) for name in registry.names("fusion")},
    }
    MEASURED.write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
