"""Threads that wait leave the processor to other processes."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from mmreg.cli import SPINS, WAITING, wait_briefly


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in WAITING:
        monkeypatch.setenv(name, "")  # so that what is set below goes after the test
        monkeypatch.delenv(name)


def test_threads_wait_briefly_unless_the_user_says_how(monkeypatch: pytest.MonkeyPatch) -> None:
    wait_briefly()
    assert os.environ["GOMP_SPINCOUNT"] == SPINS
    monkeypatch.delenv("GOMP_SPINCOUNT")
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    wait_briefly()
    assert "GOMP_SPINCOUNT" not in os.environ


def test_it_is_said_before_torch_is_there() -> None:
    code = "import sys, mmreg.cli; mmreg.cli.wait_briefly(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
