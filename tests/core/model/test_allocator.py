"""Memory that a step has freed is there for the next one, and given back after the training."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from mmreg.model.allocator import OWN, freed_memory_kept

resource = pytest.importorskip("resource")
SIZE = 1 << 26  # beyond what the library keeps of itself
glibc = pytest.mark.skipif(
    "CS_GNU_LIBC_VERSION" not in os.confstr_names or any(os.environ.get(name) for name in OWN),
    reason="needs the GNU C library, as nobody has set it up",
)


def faults() -> int:
    """How often a page has to be mapped while a large array is made and freed five times."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        torch.ones(SIZE // 4)
    return int(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)


def settled_faults() -> int:
    """The same after some rounds, as a hole that other arrays have left fits only when small ones have filled it up."""
    return [faults() for _ in range(6)][-1]


def resident() -> int:
    """The bytes of memory that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


@glibc
def test_freed_memory_is_used_again() -> None:
    without = faults()
    with freed_memory_kept():
        inside = settled_faults()
    assert inside < without / 3


@glibc
def test_it_is_given_back_when_the_last_one_that_keeps_it_has_ended() -> None:
    with freed_memory_kept():
        with freed_memory_kept():
            faults()
        settled_faults()
        kept = resident()
        assert faults() < 2 * SIZE // os.sysconf("SC_PAGESIZE")
    assert resident() < kept - SIZE / 2


def test_settings_of_the_user_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "1000000")
    monkeypatch.setattr("ctypes.CDLL", lambda name: pytest.fail("the C library was opened"))
    with freed_memory_kept():
        pass


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "confstr", lambda name: None)
    with freed_memory_kept():
        pass
