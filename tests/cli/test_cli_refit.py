"""`mmreg refit` from the command line."""

from __future__ import annotations

import errno
import json
import shlex
import shutil
import signal
from pathlib import Path

import pytest
from small import Caller

from mmreg.contract.callback import Step


def test_a_run_becomes_one_that_has_learned_from_validation_rows_too(here: Path, cli: Caller, tmp_path: Path) -> None:
    called = cli("refit", "run", "--out", tmp_path / "again", "--device", "cpu")
    assert called.code == 0, called.err
    before, after = (
        json.loads((each / "components.json").read_text())["table"]["rows"]
        for each in (here / "run", tmp_path / "again")
    )
    assert after == {"train": before["train"] + before["validation"], "validation": 0, "test": before["test"]}
    assert "measured on the test rows" in called.out
    assert "note: validation rows are learned from as well, as training.refit says" in called.err
    figures = json.loads((tmp_path / "again/report.json").read_text())["test"]["metrics"]
    assert f"Accuracy: {figures['accuracy']:.0%}" in cli("evaluate", tmp_path / "again", "--split", "test").out
    gone = cli("evaluate", tmp_path / "again", "--split", "validation")
    assert (gone.code, "validation" in gone.err) == (2, True)


def test_one_that_is_stopped_says_how_to_go_on_and_that_does(
    here: Path, cli: Caller, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mmreg.cli import display

    def stop(self: display.Display, step: Step) -> None:
        if step.step == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(display.Display, "on_step", stop)
    stopped = cli("refit", "run", "--out", tmp_path / "again", "--epochs", "2")
    monkeypatch.undo()
    monkeypatch.chdir(here)
    assert stopped.code == 130
    command = stopped.err.splitlines()[-1].strip()
    assert command == f"mmreg refit run --out {tmp_path / 'again'} --epochs 2 --resume"
    assert cli(*shlex.split(command)[1:]).code == 0
    assert json.loads((tmp_path / "again/report.json").read_text())["epochs"] == 2


def test_one_that_was_stopped_goes_on_by_what_is_printed_although_its_run_is_gone(
    here: Path, cli: Caller, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mmreg.cli import display

    def stop(self: display.Display, step: Step) -> None:
        if step.step == 2:
            signal.raise_signal(signal.SIGTERM)

    shutil.copytree(here / "run", tmp_path / "own")
    with monkeypatch.context() as patch:
        patch.setattr(display.Display, "on_step", stop)
        stopped = cli("refit", tmp_path / "own", "--out", tmp_path / "again", "--epochs", "2")
    assert stopped.code == 75
    assert f"it is kept in {tmp_path / 'again'} as of its last checkpoint; go on with:" in stopped.err
    command = next(line for line in stopped.err.splitlines() if line.startswith("  mmreg refit"))
    shutil.rmtree(tmp_path / "own")
    done = cli(*shlex.split(command)[1:])
    assert done.code == 0, done.err
    assert json.loads((tmp_path / "again/report.json").read_text())["epochs"] == 2


def test_a_disk_that_is_full_is_told_with_what_to_type(
    here: Path, cli: Caller, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("mmreg.runs.report_split", full)
        failed = cli("refit", "run", "--out", tmp_path / "again", "--epochs", "2")
    assert failed.code == 1
    command = f"mmreg refit run --out {tmp_path / 'again'} --epochs 2 --resume"
    assert f"as of its last checkpoint; go on with:\n  {command}" in failed.err
    monkeypatch.chdir(here)
    assert cli(*shlex.split(command)[1:]).code == 0


def test_the_new_run_is_named_by_the_run_it_is_of(
    here: Path, cli: Caller, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(here / "run", tmp_path / "own")
    monkeypatch.chdir(tmp_path / "own")
    assert cli("refit", ".", "--epochs", "1", "--quiet").code == 0
    assert (tmp_path / "own-refit" / "model.safetensors").is_file()


def test_what_goes_wrong_is_told(here: Path, cli: Caller) -> None:
    both = cli("refit", "run", "--resume", "--overwrite")
    assert (both.code, "give one of them" in both.err) == (2, True)
    itself = cli("refit", "run", "--out", "run", "--overwrite")
    assert (itself.code, "name another folder for it" in itself.err) == (2, True)
    nowhere = cli("refit", "nowhere")
    assert (nowhere.code, "there is no run folder 'nowhere'; there are run" in nowhere.err) == (2, True)
    assert not (here / "nowhere-refit").exists()


def test_refitting_is_proposed_where_it_can_be_done(here: Path, cli: Caller, tmp_path: Path) -> None:
    assert "\n  mmreg refit " not in cli("fuse", here / "run", here / "run", "--out", tmp_path / "fused").out
    settings = ["--set", "training.balance=gradient_blending", "--set", "fusion=concat", "--set", "training.epochs=1"]
    blended = cli("train", here / "run/recipe.yaml", "--out", tmp_path / "blended", *settings)
    assert (blended.code, "\n  mmreg refit " in blended.out) == (0, False), blended.err
