"""A few hundred damaged and made-up inputs of all kinds; `make fuzz` runs thousands."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(
    not hasattr(os, "fork") or sys.platform != "linux", reason="cases run in forked processes"
)


def test_damaged_and_made_up_input_of_all_kinds_gives_a_result_or_an_error_of_its_own(tmp_path: Path) -> None:
    settings = {
        "FUZZ_SEED": "0",
        "FUZZ_CASES": "250",
        "FUZZ_JOBS": "2",
        "FUZZ_FINDINGS": str(tmp_path),
        "FUZZ_KINDS": "",
    }
    environment = {**os.environ, **settings, "FUZZ_AGAIN": "", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-m", "fuzzing"],
        env=environment,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr[-2000:]}"
