"""More rows take proportionally longer, and hardly more memory: what is prepared stays in its files."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from harness import record

ROUNDS = 3
SIZES = {10_000: "10^4", 100_000: "10^5", 1_000_000: "10^6"}


@pytest.mark.bench
@pytest.mark.skipif(sys.platform != "linux", reason="anonymous memory is told by /proc")
def test_a_row_of_many_costs_what_a_row_of_few_does(tmp_path: Path) -> None:
    script = Path(__file__).with_name("scaling.py")
    paths = [entry for entry in sys.path if entry]  # where the tests find mmreg
    code = f"import sys; sys.path[:0] = {paths!r}; import runpy; runpy.run_path({str(script)!r}, run_name='__main__')"

    def measure(count: int) -> dict[str, Any]:
        command = [sys.executable, "-c", code, str(count), str(tmp_path)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    rounds = [{count: measure(count) for count in SIZES} for _ in range(ROUNDS)]
    least = min(SIZES)
    failures = []
    for count, name in list(SIZES.items())[1:]:
        for key, what, at_most in (("seconds", "time a row", 1.2), ("bytes", "anonymous memory", 1.1)):
            ratios = [each[count][key] / each[least][key] for each in rounds]
            try:
                record(f"training over {name} rows, {what}", f"{SIZES[least]} rows", ratios, at_most=at_most)
            except AssertionError as missed:
                failures.append(str(missed))
    assert not failures, failures
