"""Going on with a training: damaged checkpoints, changed code, longer and shorter trainings, and the end of one."""

from __future__ import annotations

import csv
import errno
import json
import math
import shutil
from functools import partial
from pathlib import Path

import pytest
import torch
import toys
from PIL import Image
from small import make_folder
from toys import NOISY, Linear, Listening, Ticking, assert_same, train

import mmreg
from mmreg import registry, runs
from mmreg.errors import RunError, TableError
from mmreg.run_files.summary import summarize
from mmreg.studies.compare.usage import read_usage
from mmreg.training import resuming
from mmreg.training.progress import Clock


@pytest.fixture(autouse=True)
def _toys() -> None:
    toys.register()


@pytest.fixture(scope="module")
def stopped_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    toys.register()
    folder = tmp_path_factory.mktemp("stopped") / "run"
    for step in (10, 18):  # epochs as short as these may be written together
        with pytest.raises(KeyboardInterrupt):
            train(folder, callback=Listening(step), resume=True, **NOISY)
    return folder


@pytest.fixture
def stopped(stopped_once: Path, tmp_path: Path) -> Path:
    """A training of three epochs that was stopped in the third."""
    return Path(shutil.copytree(stopped_once, tmp_path / "stopped"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same training, not stopped."""
    toys.register()
    return train(tmp_path_factory.mktemp("whole") / "run", **NOISY).folder


def learning_rates(folder: Path) -> list[float]:
    with (folder / runs.METRICS).open() as file:
        return [float(row["learning_rate"]) for row in csv.DictReader(file)]


def flip(path: Path, bit: int) -> None:
    data = bytearray(path.read_bytes())
    data[bit // 8 % len(data)] ^= 1 << bit % 8
    path.write_bytes(data)


def test_a_damaged_checkpoint_gives_way_to_the_one_before(stopped: Path, whole: Path) -> None:
    path = stopped / runs.CHECKPOINT
    path.write_bytes(path.read_bytes()[:-100])
    listening = Listening()
    train(stopped, resume=True, callback=listening, **NOISY)
    (note,) = (text for text in listening.messages if "damaged" in text)
    assert f"the checkpoint {path} is damaged" in note
    assert "going on from the one before, of epoch 1" in note
    assert_same(stopped, whole)


def test_a_lost_checkpoint_gives_way_to_the_one_before(stopped: Path, whole: Path) -> None:
    (stopped / runs.CHECKPOINT).unlink()
    listening = Listening()
    train(stopped, resume=True, callback=listening, **NOISY)
    assert any("last.pt is gone; going on from the one before, of epoch 1" in text for text in listening.messages)
    assert_same(stopped, whole)


@pytest.mark.parametrize("bit", range(11, 400_000, 40_009))
def test_a_flipped_bit_in_a_checkpoint_never_changes_the_run(stopped: Path, whole: Path, bit: int) -> None:
    flip(stopped / runs.CHECKPOINT, bit)
    train(stopped, resume=True, **NOISY)
    assert_same(stopped, whole)


def kept(folder: Path) -> set[str]:
    return {path.name for path in (folder / runs.CHECKPOINTS).iterdir()}


def test_a_training_that_is_over_keeps_one_state(whole: Path, stopped: Path) -> None:
    assert kept(stopped) == {"last.pt", "earlier.pt", "best.safetensors", "earlier-best.safetensors"}
    assert kept(whole) == {"last.pt", "best.safetensors"}


def test_one_that_is_finished_while_its_last_state_is_damaged_keeps_the_one_before(stopped: Path, whole: Path) -> None:
    flip(stopped / runs.CHECKPOINT, 8 * 1000)
    mmreg.finish(stopped, toys.rows())
    assert "earlier.pt" in kept(stopped)
    train(stopped, resume=True, **NOISY)
    assert_same(stopped, whole)
    assert kept(stopped) == kept(whole)


def test_one_that_is_finished_from_the_state_before_the_last_one_keeps_that(
    stopped: Path, whole: Path, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "other", callback=Listening(10), **{**NOISY, "overrides": ["training.seed=5"]})
    shutil.copy(tmp_path / "other" / runs.CHECKPOINT, stopped / runs.CHECKPOINT)
    listening = Listening()
    mmreg.finish(stopped, toys.rows(), callback=listening)
    assert any("last.pt is of another training; going on from the one before" in text for text in listening.messages)
    assert "earlier.pt" in kept(stopped)
    train(stopped, resume=True, **NOISY)
    assert_same(stopped, whole)
    assert kept(stopped) == kept(whole)


def test_a_last_state_that_looks_encrypted_does_not_keep_a_run_from_its_end(stopped: Path) -> None:
    last = stopped / runs.CHECKPOINT
    held = bytearray(last.read_bytes())
    held[held.index(b"PK\x01\x02") + 8] |= 1  # of the first part's flags in the directory
    last.write_bytes(held)
    assert mmreg.finish(stopped, toys.rows()).report["test"]
    assert "earlier.pt" in kept(stopped)


def test_two_damaged_checkpoints_are_refused(stopped: Path) -> None:
    for name in (runs.CHECKPOINT, runs.EARLIER_CHECKPOINT):
        (stopped / name).write_bytes(b"nothing")
    with pytest.raises(RunError, match=r"last\.pt is damaged .* and .*earlier\.pt is damaged .*; train anew"):
        train(stopped, resume=True, **NOISY)


def test_damaged_best_weights_are_refused_until_they_are_removed(stopped: Path) -> None:
    flip(stopped / runs.BEST, 8 * 1000)
    with pytest.raises(RunError, match=r"best\.safetensors are damaged.*; remove it to go on without"):
        train(stopped, resume=True, **NOISY)
    with pytest.raises(RunError, match="are damaged"):
        mmreg.finish(stopped, toys.rows())
    (stopped / runs.BEST).unlink()
    listening = Listening()
    run = train(stopped, resume=True, callback=listening, **NOISY)
    assert any("is gone: the best weights are those of the epochs from here on" in text for text in listening.messages)
    assert run.report["best"]["epoch"] == 3


@pytest.mark.parametrize("damage", [b"\xff", b"epoch\nx\n", b"seconds\n1\n", b'"'])
def test_damaged_timings_keep_nothing_from_going_on(stopped: Path, whole: Path, damage: bytes) -> None:
    (stopped / runs.TIMINGS).write_bytes(damage)
    train(stopped, resume=True, **NOISY)
    assert_same(stopped, whole)
    assert read_usage(stopped)["epochs"] == 1


class Changed(Linear):
    __doc__ = Linear.__doc__
    version = 2


def test_another_version_of_a_component_is_refused_unless_accepted(stopped: Path) -> None:
    registry.unregister("encoder", "linear")
    registry.register("encoder", "linear", Changed)
    try:
        with pytest.raises(RunError) as caught:
            train(stopped, resume=True, **NOISY)
        assert "encoder/a (linear) was version 1, is version 2" in str(caught.value)
        assert "--accept-changes" in str(caught.value)
        run = train(stopped, resume=True, accept_changes=True, **NOISY)
        notes = [text for text in run.report["notes"] if "although it has changed" in text]
        assert len(notes) == 2
        assert json.loads((stopped / runs.COMPONENTS).read_text())["components"]["encoder/a"]["component_version"] == 2
        train(stopped, resume=True, **NOISY)
    finally:
        registry.unregister("encoder", "linear")


def test_changed_code_and_packages_are_refused(stopped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = resuming.component_facts
    monkeypatch.setattr(
        resuming, "component_facts", lambda plan: {r: {**c, "code": "other"} for r, c in facts(plan).items()}
    )
    with pytest.raises(RunError, match=r"encoder/a \(linear\): the file with its code has changed"):
        train(stopped, resume=True, **NOISY)
    monkeypatch.setattr(resuming, "component_facts", facts)
    monkeypatch.setattr(resuming, "version", lambda package: "99")
    with pytest.raises(RunError, match=r"torch was .*, is 99"):
        train(stopped, resume=True, **NOISY)


def test_files_that_were_replaced_are_refused_unless_accepted(tmp_path: Path) -> None:
    make_folder(tmp_path)
    overrides = ["training.epochs=3"]
    with pytest.raises(KeyboardInterrupt):
        mmreg.train(
            tmp_path / "recipe.yaml", tmp_path / "run", overrides=overrides, callback=Listening(4), device="cpu"
        )
    picture = tmp_path / "images" / "3.png"
    Image.open(picture).rotate(180).save(picture)
    (tmp_path / "images" / "4.png").touch()
    again = partial(mmreg.train, tmp_path / "recipe.yaml", tmp_path / "run", overrides=overrides, resume=True)
    with pytest.raises(
        RunError, match="image: what was loaded from its cells, or from the files that they name"
    ) as told:
        again(device="cpu")
    assert "audio" not in str(told.value)
    run = again(device="cpu", accept_changes=True)
    assert any(text.startswith("gone on with although it has changed: image") for text in run.report["notes"])
    assert not any("although" in text for text in again(device="cpu").report["notes"])


@pytest.mark.parametrize("schedule", ["null", "cosine", "CosineAnnealingLR", "OneCycleLR", "ReduceLROnPlateau"])
def test_a_run_that_is_extended_has_the_rates_of_one_as_long_from_the_start(tmp_path: Path, schedule: str) -> None:
    optional = ", max_lr: 0.1" if schedule == "OneCycleLR" else ""
    chosen = f"training.schedule={schedule if schedule == 'null' else f'{{name: {schedule}{optional}}}'}"
    train(tmp_path / "run", overrides=[chosen, "training.epochs=2"], **NOISY)
    extended = train(tmp_path / "run", overrides=[chosen, "training.epochs=5"], resume=True, **NOISY)
    train(tmp_path / "long", overrides=[chosen, "training.epochs=5"], **NOISY)
    assert learning_rates(extended.folder)[2:] == pytest.approx(learning_rates(tmp_path / "long")[2:])
    assert extended.report["epochs"] == 5
    assert extended.recipe["training"]["epochs"] == 5
    if schedule in ("null", "ReduceLROnPlateau"):
        assert_same(tmp_path / "run", tmp_path / "long")


def test_an_extended_training_that_is_stopped_goes_on_as_it_was_extended(tmp_path: Path) -> None:
    train(tmp_path / "run", overrides=["training.epochs=2"], **NOISY)
    shutil.copytree(tmp_path / "run", tmp_path / "whole")
    train(tmp_path / "whole", overrides=["training.epochs=4"], resume=True, **NOISY)
    for step in (17, 25):
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "run", overrides=["training.epochs=4"], resume=True, callback=Listening(step), **NOISY)
    train(tmp_path / "run", overrides=["training.epochs=4"], resume=True, **NOISY)
    assert_same(tmp_path / "run", tmp_path / "whole")


def test_fewer_epochs_or_steps_than_are_done_are_refused(stopped: Path) -> None:
    before = (stopped / runs.RECIPE).read_bytes()
    for setting in ("training.epochs=1", "training.max_steps=3"):
        with pytest.raises(
            RunError, match=r"16 steps of the run in .* are done already \(2 whole epochs\), more than the"
        ):
            train(stopped, resume=True, overrides=[setting], **NOISY)
    assert (stopped / runs.RECIPE).read_bytes() == before


def test_a_whole_run_without_checkpoints_is_not_trained_anew_unasked(whole: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(whole, tmp_path / "run"))
    shutil.rmtree(folder / runs.CHECKPOINTS)
    with pytest.raises(RunError, match=r"no checkpoint in .* to go on from; the run there is whole"):
        train(folder, resume=True, **NOISY)
    assert mmreg.load(folder, "cpu").evaluate(toys.rows(), split="test")["rows"] == 40


def test_what_is_no_matter_of_length_may_not_change(stopped: Path) -> None:
    with pytest.raises(RunError, match=r"another recipe:\n  training\.batch_size: was 16, is 8\nresume"):
        train(stopped, resume=True, overrides=["training.batch_size=8", "training.epochs=9"], **NOISY)


def test_a_training_that_was_stopped_is_finished_with_its_best_weights(stopped: Path) -> None:
    run = mmreg.finish(stopped, toys.rows(), device="cpu")
    best = runs.read_weights(stopped / runs.BEST)
    assert all(torch.equal(tensor, best[name]) for name, tensor in run.model.state_dict().items())
    again = mmreg.load(stopped, "cpu")
    assert again.evaluate(toys.rows(), split="test")["metrics"] == run.report["test"]["metrics"]
    assert run.report["epochs"] == 2
    with pytest.raises(RunError, match="has ended, and is a run"):
        mmreg.finish(stopped, toys.rows())


def test_a_finished_run_goes_on_to_the_run_that_was_not_stopped(stopped: Path, whole: Path) -> None:
    mmreg.finish(stopped, toys.rows(), device="cpu")
    train(stopped, resume=True, **NOISY)
    assert_same(stopped, whole)


def test_what_cannot_be_finished_is_refused(stopped: Path, tmp_path: Path) -> None:
    with pytest.raises(TableError, match="pass the table"):
        mmreg.finish(stopped)
    with pytest.raises(RunError, match="has changed since"):
        mmreg.finish(stopped, toys.rows(seed=3))
    with pytest.raises(RunError, match="no run folder"):
        mmreg.finish(tmp_path / "nothing")
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "early", callback=Listening(3))
    with pytest.raises(RunError, match="before an epoch had ended"):
        mmreg.finish(tmp_path / "early", toys.rows())


def test_a_training_that_is_out_of_time_is_a_whole_run_and_goes_on(
    tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mmreg.training.progress.time.monotonic", Ticking(10))
    limited = train(tmp_path / "run", overrides=["training.max_minutes=1.5"], **NOISY)
    epochs = limited.report["epochs"]
    assert 1 <= epochs < 3
    assert any("as max_minutes: 1.5 says; go on by --resume" in text for text in limited.report["notes"])
    assert limited.evaluate(toys.rows(), split="test")["metrics"] == limited.report["test"]["metrics"]
    monkeypatch.undo()
    rest = train(tmp_path / "run", resume=True, **NOISY)
    assert rest.report["epochs"] == 3
    assert rest.recipe["training"]["max_minutes"] is None


def test_a_clock_leaves_time_for_a_validation_as_long_as_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("mmreg.training.progress.time.monotonic", lambda: now[0])
    clock = Clock(1)
    assert not clock.is_over()
    now[0] = 30
    with clock.validating():
        now[0] = 45
    assert not Clock(None).is_over()
    now[0] = 44
    assert not clock.is_over()
    now[0] = 45
    assert clock.is_over()
    assert math.isfinite(now[0])


@pytest.fixture
def extended(whole: Path, tmp_path: Path) -> Path:
    """A run of three epochs that was gone on with for longer, and stopped in the sixth."""
    folder = Path(shutil.copytree(whole, tmp_path / "extended"))
    with pytest.raises(KeyboardInterrupt):
        train(folder, resume=True, overrides=["training.epochs=6"], callback=Listening(44), **NOISY)
    return folder


def test_a_run_that_is_extended_and_stopped_is_the_run_that_it_was_until_it_is_finished(extended: Path) -> None:
    summary = summarize(extended)
    assert (summary.status, summary.about) == ("whole", "trained on to epoch 5, not finished")
    rows = runs.read_timings(extended)
    assert len(rows) == 5
    assert summary.seconds == pytest.approx(sum(float(row["seconds"]) for row in rows[:3]))
    run = mmreg.load(extended, "cpu")
    assert run.evaluate(toys.rows(), split="test")["metrics"] == run.report["test"]["metrics"]
    assert mmreg.finish(extended, toys.rows()).report["epochs"] == 5
    assert summarize(extended).about == ""
    with pytest.raises(RunError, match="has ended, and is a run"):
        mmreg.finish(extended, toys.rows())


@pytest.mark.parametrize("write", ["mmreg.training.session.write_json", "mmreg.runs.write_weights"])
def test_an_end_that_is_broken_off_is_none(extended: Path, monkeypatch: pytest.MonkeyPatch, write: str) -> None:
    def killed(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(write, killed)
        with pytest.raises(KeyboardInterrupt):
            mmreg.finish(extended, toys.rows())
    assert summarize(extended).about == "trained on to epoch 5, not finished"
    with pytest.raises(RunError, match=r"was gone on with, and has not ended; .*mmreg finish"):
        runs.read_predictions(extended, "validation")
    run = mmreg.finish(extended, toys.rows())
    assert run.report["epochs"] == 5
    assert mmreg.load(extended, "cpu").evaluate(toys.rows(), split="test")["metrics"] == run.report["test"]["metrics"]


def test_a_run_whose_report_is_gone_is_finished_anew_and_one_without_a_whole_state_is_not(
    whole: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(whole, tmp_path / "run"))
    (folder / runs.REPORT).unlink()
    assert mmreg.finish(folder, toys.rows()).report["epochs"] == 3
    flip(folder / runs.CHECKPOINT, 8 * 1000)
    with pytest.raises(RunError, match="has ended, and is a run"):
        mmreg.finish(folder, toys.rows())


def test_a_whole_run_without_its_best_weights_keeps_those_that_it_has(whole: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(whole, tmp_path / "run"))
    (folder / runs.BEST).unlink()
    before = (folder / runs.WEIGHTS).read_bytes()
    with pytest.raises(RunError, match=r"best.safetensors is gone, and there is nothing left to train"):
        train(folder, resume=True, **NOISY)
    assert (folder / runs.WEIGHTS).read_bytes() == before
    assert train(folder, resume=True, overrides=["training.epochs=4"], **NOISY).report["epochs"] == 4


def test_a_run_that_is_measured_anew_stays_whole_where_that_is_broken_off(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    folder = Path(shutil.copytree(whole, tmp_path / "run"))
    before = mmreg.load(folder, "cpu").report
    monkeypatch.setattr(runs, "write_weights", full)
    with pytest.raises(OSError, match="No space"):
        train(folder, resume=True, **NOISY)
    assert summarize(folder).about == ""
    assert mmreg.load(folder, "cpu").report == before


def test_what_is_said_otherwise_of_the_end_is_told(stopped: Path) -> None:
    listening = Listening()
    train(
        stopped, resume=True, overrides=["training.epochs=4", "training.early_stopping=3"], callback=listening, **NOISY
    )
    assert "training.epochs: was 3, is 4" in listening.messages
    assert "training.early_stopping: was null, is 3" in listening.messages
