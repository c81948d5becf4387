"""Going on within an epoch: at the very step, to the bits of a training that was never stopped."""

from __future__ import annotations

import csv
import itertools
import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import toys
from toys import NOISY, Ticking, assert_same, stopped_at, train

import mmreg
from mmreg import runs
from mmreg.errors import OptionError, RunError
from mmreg.training.checkpoint import load_checkpoint
from mmreg.training.stopping import Stop, Stopped

EPOCHS = ["training.epochs=7"]
NOWHERE = {"split": {"validation": 0.0, "test": 0.2}}
SETTINGS: dict[str, dict[str, Any]] = {
    "plain": NOISY,
    "accumulating": {**NOISY, "overrides": ["training.accumulate=3", "training.gradient_clip=0.5"]},
    "blending": {**NOISY, "fusion": {"name": "mean", "own_loss": "gradient_blending", "joint_loss": True}},
    "stopping early": {**NOISY, "overrides": ["training.early_stopping={patience: 1, min_delta: 0.05}"]},
    "schedule by epochs": {**NOISY, "overrides": ["training.schedule={name: StepLR, step_size: 1, gamma: 0.5}"]},
    "schedule by loss": {**NOISY, "overrides": ["training.schedule={name: ReduceLROnPlateau, patience: 0}"]},
    "dropping modalities": {**NOISY, "overrides": ["training.modality_dropout=0.3"]},
    "fitted": {**NOISY, "fusion": "stacking"},
    "frozen at first": {
        **NOISY,
        "fusion": "concat",
        "modalities": {
            name: {"type": "numbers", "encoder": {"name": "linear", "freeze": {"until_epoch": 2}}} for name in "ab"
        },
    },
    "frozen for good": {
        **NOISY,
        "fusion": "concat",
        "modalities": {
            "a": {"type": "numbers", "encoder": {"name": "linear", "freeze": True}},
            "b": {"type": "numbers", "noise": 0.1, "encoder": {"name": "linear", "freeze": True}},
        },
        "overrides": ["training.average=0.9", "training.keep=soup"],
    },
    "no validation rows": {**NOISY, **NOWHERE},
    "balanced by gradients": {**NOISY, "fusion": "concat", "overrides": ["training.balance=agm"]},
    "balanced by what is left out": {**NOISY, "fusion": "concat", "overrides": ["training.balance=opm"]},
    "balanced through one head": {**NOISY, "fusion": "sum", "overrides": ["training.balance=mla"]},
    "balanced in turns": {
        **NOISY,
        "fusion": "concat",
        "overrides": ["training.balance={name: reconboost, turn: 2}"],
    },
    "the last weights": {**NOISY, "overrides": ["training.keep=last"]},
    "steps that end within an epoch": {**NOISY, "overrides": ["training.max_steps=21"]},
}


@pytest.fixture(autouse=True)
def _toys() -> None:
    toys.register()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training of three epochs that nothing stopped."""
    toys.register()
    return train(tmp_path_factory.mktemp("whole") / "run", **NOISY).folder


def report(folder: Path) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return facts


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / runs.METRICS).open() as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("name", SETTINGS)
def test_a_training_that_is_stopped_within_epochs_is_the_one_that_was_not(tmp_path: Path, name: str) -> None:
    settings = {**SETTINGS[name], "overrides": [*EPOCHS, *SETTINGS[name].get("overrides", [])]}
    whole = train(tmp_path / "whole", **settings)
    last = whole.report["steps"]
    for step in (1, 3, last // 2, last // 2 + 1, last - 1, last):
        ended = stopped_at(tmp_path / "run", step, **settings)
        assert ended.step == step
        assert load_checkpoint(tmp_path / "run")[0]["progress"]["step"] == step
    train(tmp_path / "run", resume=True, **settings)
    assert_same(tmp_path / "run", tmp_path / "whole")
    assert report(tmp_path / "run") == report(tmp_path / "whole")
    assert [row["epoch"] for row in runs.read_timings(tmp_path / "run")] == [
        row["epoch"] for row in runs.read_timings(tmp_path / "whole")
    ]


def test_checkpoints_come_after_steps_and_keep_the_one_before(tmp_path: Path) -> None:
    kept, earlier, taken = [], [], itertools.count(1)

    class Looking(mmreg.Callback):
        def on_step(self, step: Any) -> None:
            number, until = next(taken), time.monotonic() + 1  # they are written beside the steps, by a slow disk later
            awaited = tmp_path / "run" / (runs.CHECKPOINT if number < 7 else runs.EARLIER_CHECKPOINT)
            while number > 3 and not awaited.is_file() and time.monotonic() < until:
                time.sleep(0.01)
            if (tmp_path / "run" / runs.CHECKPOINT).is_file():
                kept.append(load_checkpoint(tmp_path / "run")[0]["progress"]["step"])
                earlier.append((tmp_path / "run" / runs.EARLIER_CHECKPOINT).is_file())

    settings = {**NOISY, "overrides": ["training.epochs=1", "training.checkpoint={minutes: null, steps: 3}"]}
    table = toys.rows(2000)
    train(tmp_path / "run", table, callback=Looking(), **settings)
    assert kept == sorted(kept)
    assert 3 in kept
    assert kept[-1] < 75  # the epoch's own comes after its last step
    assert load_checkpoint(tmp_path / "run")[0]["progress"]["step"] == 75
    assert earlier[-1]


def test_a_stop_during_the_validation_loses_no_step(
    tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    from mmreg.training import validation

    stop, predict = Stop(), validation.predict

    def stopping(*arguments: Any) -> Any:
        stop.wanted = True
        return predict(*arguments)

    monkeypatch.setattr(validation, "predict", stopping)
    with pytest.raises(Stopped) as caught:
        train(tmp_path / "run", stop=stop, **NOISY)
    assert (caught.value.step, caught.value.epoch) == (8, 1)
    monkeypatch.undo()
    assert stopped_at(tmp_path / "run", 9, **NOISY).epoch == 2
    train(tmp_path / "run", resume=True, **NOISY)
    assert_same(tmp_path / "run", whole)


def test_a_wish_before_the_last_measuring_is_heeded(tmp_path: Path, whole: Path) -> None:
    stop = Stop()

    class Late(mmreg.Callback):
        def on_epoch_end(self, run: mmreg.FollowedRun, epoch: mmreg.Epoch) -> None:
            stop.wanted = epoch.number == 3

    with pytest.raises(Stopped, match="after the last epoch"):
        train(tmp_path / "run", callback=Late(), stop=stop, **NOISY)
    assert not (tmp_path / "run/report.json").exists()
    train(tmp_path / "run", resume=True, **NOISY)
    assert_same(tmp_path / "run", whole)


@pytest.mark.parametrize("keep", ["best", "last"])
@pytest.mark.parametrize("minutes", [0.9, 1.9, 3.9])
def test_a_training_whose_time_ends_within_an_epoch_is_whole_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, minutes: float, keep: str
) -> None:
    settings = {**NOISY, "overrides": [f"training.keep={keep}"]}
    train(tmp_path / "whole", **settings)
    monkeypatch.setattr("mmreg.training.progress.time.monotonic", Ticking(10))
    limited = {**NOISY, "overrides": [f"training.keep={keep}", f"training.max_minutes={minutes}"]}
    run = train(tmp_path / "run", resume=True, **limited)
    monkeypatch.undo()
    steps = run.report["steps"]
    assert steps % 8
    assert run.report["epochs"] == len(rows(run.folder)) == steps // 8 + 1
    (note,) = (text for text in run.report["notes"] if "max_minutes" in text)
    assert f"(step {steps} of 24)" in note
    assert mmreg.load(run.folder, "cpu").evaluate(toys.rows(), split="test")["metrics"] == run.report["test"]["metrics"]
    if keep == "best":
        values = [float(row["validation_accuracy"]) for row in rows(run.folder)]
        assert run.report["best"]["value"] == max(values)
        assert run.report["validation"]["metrics"]["accuracy"] == max(values)
    assert load_checkpoint(run.folder)[0]["progress"]["step"] == steps
    train(tmp_path / "run", resume=True, **settings)
    assert_same(tmp_path / "run", tmp_path / "whole")


@pytest.mark.parametrize("step", [3, 8, 13])
def test_what_was_stopped_within_an_epoch_is_finished_and_goes_on(tmp_path: Path, whole: Path, step: int) -> None:
    stopped_at(tmp_path / "run", step, **NOISY)
    run = mmreg.finish(tmp_path / "run", toys.rows(), device="cpu")
    assert run.report["steps"] == step
    assert run.report["epochs"] == len(rows(run.folder)) == (step + 7) // 8
    assert run.report["best"]["epoch"] <= run.report["epochs"]
    again = mmreg.load(run.folder, "cpu")
    assert again.evaluate(toys.rows(), split="test")["metrics"] == run.report["test"]["metrics"]
    train(tmp_path / "run", resume=True, **NOISY)
    assert_same(tmp_path / "run", whole)


def test_a_training_of_an_earlier_release_goes_on_from_its_epoch(tmp_path: Path, whole: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "run", callback=toys.Listening(12), **NOISY)
    path = tmp_path / "run" / runs.CHECKPOINT
    state = load_checkpoint(tmp_path / "run")[0]
    del state["position"], state["watch"]
    torch.save(state, path)
    train(tmp_path / "run", resume=True, **NOISY)
    assert_same(tmp_path / "run", whole)


def test_how_often_it_is_kept_may_be_another_when_a_training_goes_on(tmp_path: Path, whole: Path) -> None:
    stopped_at(tmp_path / "run", 11, **NOISY)
    changed = ["training.checkpoint={minutes: null, steps: 2}", "training.on_nonfinite=skip"]
    train(tmp_path / "run", resume=True, **{**NOISY, "overrides": changed})
    assert_same(tmp_path / "run", whole)


def test_fewer_epochs_than_are_begun_are_refused(tmp_path: Path) -> None:
    stopped_at(tmp_path / "run", 11, **NOISY)
    with pytest.raises(RunError, match=r"11 steps of the run in .* are done already \(1 whole epochs\), more than the"):
        train(tmp_path / "run", resume=True, **{**NOISY, "overrides": ["training.epochs=1"]})


def test_a_clock_that_is_set_back_changes_nothing(tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(range(10**9, 0, -3600))
    monkeypatch.setattr("time.time", lambda: float(next(now)))
    settings = {**NOISY, "overrides": ["training.checkpoint={minutes: 0.0001}", "training.max_minutes=60"]}
    train(tmp_path / "run", **settings)
    monkeypatch.undo()
    assert_same(tmp_path / "run", whole)
    assert all(float(row["seconds"]) > 0 for row in runs.read_timings(tmp_path / "run"))


def test_what_is_no_stop_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"stop must be a mmreg\.Stop, found bool"):
        train(tmp_path / "run", stop=True)
    assert not (tmp_path / "run").exists()
