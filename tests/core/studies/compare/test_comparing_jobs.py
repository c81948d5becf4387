"""Trainings in processes of their own: what one that is killed leaves to the others."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import mmreg
from mmreg.contract.callback import TRAINING
from mmreg.studies.compare import jobs, run_grid

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="trainings are forks on Linux alone")

RECIPE = """
table: table.csv
target: {column: label}
modalities:
  title: {type: text, encoder: {name: text_bag, features: 4}}
  body: {type: text, encoder: {name: text_bag, features: 4}}
training: {epochs: 2, batch_size: 16}
"""


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MMREG_DISABLE_PLUGINS", "report")  # to draw curves takes longer than to train
    rows = [f"{['red', 'blue'][n % 2]},{['cat', 'dog'][n // 2 % 2]} {n},{n % 4}" for n in range(80)]
    (tmp_path / "table.csv").write_text("title,body,label\n" + "\n".join(rows) + "\n")
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    return tmp_path / "recipe.yaml"


class Killing(mmreg.Callback):
    """Kills a process of the worker that trains a variant, and keeps the worker's messages."""

    def __init__(self, variant: str, forks: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        self.variant, self.forks = variant, forks
        self.started: list[int] = []
        self.trained: dict[str, int] = {}
        start, popen = jobs._ForkingWorker.start, subprocess.Popen

        def starting(worker: Any, job: Any) -> None:
            start(worker, job)
            self.worker = worker

        def opening(*arguments: Any, **options: Any) -> Any:
            process = popen(*arguments, **options)
            self.started.append(process.pid)
            return process

        monkeypatch.setattr(jobs._ForkingWorker, "start", starting)
        monkeypatch.setattr(jobs.subprocess, "Popen", opening)

    def on_progress(self, what: str, done: int, total: int, note: str = "") -> None:
        if what == TRAINING and ": " not in note:
            self.worker.code()
            variant, forked = note.partition(",")[0], self.worker._trained
            if forked is not None and variant not in self.trained:
                self.trained[variant] = forked
                if variant == self.variant:
                    os.kill(self.started[-1] if self.forks else forked, signal.SIGKILL)


def is_running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize(
    "forks", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["the training", "what it is a fork of"]
)
def test_one_that_is_killed_is_named_and_the_others_go_on(
    forks: bool, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killing = Killing("sum", forks, monkeypatch)
    found = run_grid(
        recipe, tmp_path / "out", fusions=["concat", "sum", "average"], singles=False, seeds=[0], device="cpu",
        callback=killing, resamples=100,
    )  # fmt: skip
    assert [
        (each.variant, "signal 9; perhaps there was too little memory" in each.reason) for each in found.failed
    ] == [("sum", True)]
    assert {variant.name for variant in found.variants} == {"concat", "average"}
    assert len(killing.started) == 1 + forks
    deadline = time.monotonic() + 20
    while any(map(is_running, [*killing.started, *killing.trained.values()])) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(is_running, [*killing.started, *killing.trained.values()]))
