"""Prints what the benchmarks have measured as one table, writes it as JSON, and renews the reference when asked.

BENCH_JSON names the file (build/benchmarks.json if it is not set); BENCH_RENEW=1 renews the reference.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import harness
import page
import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Torch computes on one thread, whose time is easier to compare on a busy machine."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def two_threads() -> Iterator[None]:
    """Torch computes on two threads, as it does by itself on the machine of the reference."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if not harness.TABLE:
        return
    facts = harness.machine()
    _, references = harness.read(harness.REFERENCE)
    terminalreporter.section("benchmarks")
    for line in harness.lines(harness.TABLE, references):
        terminalreporter.write_line(line)
    path = Path(os.environ.get("BENCH_JSON") or ROOT / "build" / "benchmarks.json")
    harness.write(path, harness.TABLE, facts)
    terminalreporter.write_line(f"wrote {path}")
    if os.environ.get("BENCH_RENEW"):
        harness.renew(harness.REFERENCE, harness.TABLE, facts)
        page.write()
        terminalreporter.write_line(f"wrote {harness.REFERENCE} and {page.PAGE}")
