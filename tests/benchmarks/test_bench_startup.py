"""How long listing takes beside importing the libraries that it needs."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

import pytest


def seconds(*arguments: str) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


@pytest.mark.bench
@pytest.mark.parametrize(
    ("command", "most"),
    # Help is drawn by rich, whose import is not among the three.
    [(["list"], 2.5), (["plugins"], 2.5), (["--help"], None), (["train", "--help"], None)],
    ids=["list", "plugins", "help", "train help"],
)
def test_listing_takes_little_more_than_its_imports(command: list[str], most: float | None) -> None:
    imports = ["-c", "import typer, pluggy, pydantic"]
    seconds(*imports), seconds("-m", "mmreg", *command)
    ratios = [seconds("-m", "mmreg", *command) / seconds(*imports) for _ in range(7)]
    ratio = statistics.median(ratios)
    print(f"\nmmreg {' '.join(command)}: {ratio:.2f} x the time of importing typer, pluggy and pydantic")
    assert most is None or ratio <= most
