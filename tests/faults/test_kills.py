"""A training that is killed a few times goes on to the bits of one that was not; `make faults` kills it 230 times."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork") or sys.platform != "linux", reason="trainings are forked")


def test_a_training_that_is_killed_at_writes_and_at_any_moment_goes_on_to_the_same_bits() -> None:
    said = killing(FAULTS_KILLS="8", FAULTS_TOGETHER="0", FAULTS_SEED="3")
    assert re.search(r"[1-9]\d* trainings, 8 kills", said)


@pytest.mark.slow
def test_a_command_of_whose_processes_one_is_killed_names_it_ends_soon_and_goes_on_to_the_same_bits() -> None:
    said = killing(FAULTS_KILLS="0", FAULTS_TOGETHER="3", FAULTS_SEED="1")
    assert re.search(r"[1-9]\d* trainings by 2 processes, 3 kills: ", said)


def killing(**settings: str) -> str:
    """What the kills printed."""
    env = {**os.environ, **settings, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-m", "kills"], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr[-4000:]}"
    return done.stdout
