"""A training that is killed a few times goes on to the bits of one that was not; `make faults` kills it 200 times."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork") or sys.platform != "linux", reason="trainings are forked")


def test_a_training_that_is_killed_at_writes_and_at_any_moment_goes_on_to_the_same_bits() -> None:
    settings = {"FAULTS_KILLS": "8", "FAULTS_SEED": "3", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-m", "kills"], env={**os.environ, **settings}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr[-4000:]}"
    assert re.search(r"[1-9]\d* trainings, 8 kills", done.stdout)
