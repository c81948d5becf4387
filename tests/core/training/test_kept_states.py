"""Which states and weights are gone on with: those of this training that belong together."""

from __future__ import annotations

import errno
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import toys
from toys import NOISY, Listening, assert_same, stopped_at, train

import mmreg
from mmreg import runs
from mmreg.errors import RunError
from mmreg.training import saving
from mmreg.training.checkpoint import BEST_WEIGHTS, FROZEN_WEIGHTS, load_checkpoint, read_state, write_state

OFTEN = "training.checkpoint={steps: 4}"
BETTER_BY_THE_EPOCH: dict[str, Any] = {**NOISY, "overrides": ["training.metric=brier"]}


HALF_FROZEN: dict[str, Any] = {
    "modalities": {
        "a": {"type": "numbers", "encoder": {"name": "linear", "freeze": True}},
        "b": {"type": "numbers", "noise": 0.1, "encoder": {"name": "linear"}},
    }
}


@pytest.fixture(autouse=True)
def _toys() -> None:
    toys.register()


class AfterWriting(mmreg.Callback):
    """Does something once the state of epoch 1 is on the disk, while nothing is being written."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, act: Callable[[Path], None] = lambda folder: None) -> None:
        self.written, self.act, self.full = threading.Event(), act, False
        save = saving.save_checkpoint

        def saved(folder: Path, state: dict[str, Any]) -> None:
            if self.full:
                raise OSError(errno.ENOSPC, "No space left on device")
            save(folder, state)
            self.written.set()

        monkeypatch.setattr(saving, "save_checkpoint", saved)

    def on_epoch_end(self, run: Any, epoch: Any) -> None:
        if epoch.number == 1:
            assert self.written.wait(60)
            self.act(run.folder)


@pytest.fixture
def newer_best(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A training that ended between writing the best weights of epoch 2 and the state that speaks of them."""
    with monkeypatch.context() as patch:
        full = AfterWriting(patch, lambda folder: setattr(full, "full", True))
        with pytest.raises(OSError, match="No space"):
            train(tmp_path / "run", callback=full, **BETTER_BY_THE_EPOCH)
    kept = load_checkpoint(tmp_path / "run")[0][BEST_WEIGHTS]
    assert runs.told_checksum(tmp_path / "run" / runs.BEST) != kept
    assert runs.told_checksum(tmp_path / "run" / runs.EARLIER_BEST) == kept
    return tmp_path / "run"


def test_a_finished_run_has_the_weights_of_the_epoch_that_it_names(newer_best: Path) -> None:
    kept = load_checkpoint(newer_best)[0][BEST_WEIGHTS]
    run = mmreg.finish(newer_best, toys.rows())
    assert run.report["best"]["epoch"] == run.report["epochs"] == 1
    assert runs.told_checksum(newer_best / runs.WEIGHTS) == kept
    assert len((newer_best / runs.METRICS).read_text().splitlines()) == 2


def test_a_training_goes_on_from_best_weights_that_belong_to_its_state(newer_best: Path, tmp_path: Path) -> None:
    whole = train(tmp_path / "whole", **BETTER_BY_THE_EPOCH)
    train(newer_best, resume=True, **BETTER_BY_THE_EPOCH)
    assert_same(newer_best, whole.folder)


def test_best_weights_of_another_training_are_not_taken(newer_best: Path) -> None:
    for name in (runs.BEST, runs.EARLIER_BEST):
        state = runs.read_weights(newer_best / name)
        runs.write_weights(newer_best / name, {key: value + 1 for key, value in state.items()})
    listening = Listening()
    mmreg.finish(newer_best, toys.rows(), callback=listening)
    assert any("best.safetensors is not of epoch 1" in text for text in listening.messages)


def test_a_checkpoint_of_another_training_is_not_gone_on_with(tmp_path: Path) -> None:
    for name, seed in (("one", 0), ("other", 5)):
        stopped_at(tmp_path / name, 12, **{**NOISY, "overrides": [f"training.seed={seed}", OFTEN]})
    last = tmp_path / "one" / runs.CHECKPOINT
    shutil.copy(tmp_path / "other" / runs.CHECKPOINT, last)
    listening = Listening(14)
    settings = {**NOISY, "overrides": ["training.seed=0", OFTEN]}
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "one", resume=True, callback=listening, **settings)
    assert any("last.pt is of another training; going on from the one before" in each for each in listening.messages)
    for name in (runs.CHECKPOINT, runs.EARLIER_CHECKPOINT):
        shutil.copy(tmp_path / "other" / runs.CHECKPOINT, tmp_path / "one" / name)
    with pytest.raises(RunError, match=r"last.pt is of another training and .*earlier.pt is of another training"):
        train(tmp_path / "one", resume=True, **settings)


@pytest.fixture(scope="module")
def whole_and_stopped(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A training that is kept often, and the same one stopped; not to be changed."""
    toys.register()
    folder = tmp_path_factory.mktemp("often")
    settings = {**NOISY, "overrides": [OFTEN]}
    train(folder / "whole", **settings)
    stopped_at(folder / "stopped", 12, **settings)
    return folder / "whole", folder / "stopped"


@pytest.mark.parametrize(
    ("place", "value"),
    [
        *((("progress", "step"), "a"), (("progress", "history"), []), (("progress", "epoch"), 10**9)),
        *((("progress", "best"), (0.5, 99)), (("progress", "best"), (0.1,)), (("progress", "best"), (0.1, "1"))),
        *((("position", "batches"), "x"), (("optimizer",), {}), (("watch",), None)),
    ],
    ids=str,
)
def test_a_state_that_cannot_be_taken_over_is_as_good_as_damaged(
    place: tuple[str, ...], value: Any, whole_and_stopped: tuple[Path, Path], tmp_path: Path
) -> None:
    whole, stopped = whole_and_stopped
    folder = Path(shutil.copytree(stopped, tmp_path / "run"))
    state = load_checkpoint(folder)[0]
    inner = state
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    with (folder / runs.CHECKPOINT).open("wb") as file:
        write_state(file, state)
    listening = Listening()
    train(folder, resume=True, callback=listening, **{**NOISY, "overrides": [OFTEN]})
    assert any("going on from the one before" in each for each in listening.messages)
    assert_same(folder, whole)


def test_weights_that_stay_as_they_are_are_kept_once(tmp_path: Path) -> None:
    whole = train(tmp_path / "whole", **HALF_FROZEN)
    stopped_at(tmp_path / "run", 12, **HALF_FROZEN)
    names = {name for name in whole.model.state_dict() if name.startswith("encoders.a.")}
    frozen = runs.read_weights(tmp_path / "run" / runs.FROZEN)
    others = set(whole.model.state_dict()) - names
    assert set(frozen) == names
    assert set(load_checkpoint(tmp_path / "run")[0]["model"]) == others
    assert set(runs.read_weights(tmp_path / "run" / runs.BEST)) == others
    train(tmp_path / "run", resume=True, **HALF_FROZEN)
    assert_same(tmp_path / "run", tmp_path / "whole")
    kept = runs.read_weights(tmp_path / "run" / runs.WEIGHTS)
    assert all(torch.equal(kept[name], frozen[name]) for name in names)


def test_without_the_weights_that_no_state_has_nothing_is_gone_on_with(tmp_path: Path) -> None:
    stopped_at(tmp_path / "run", 12, **HALF_FROZEN)
    frozen = tmp_path / "run" / runs.FROZEN
    content = frozen.read_bytes()
    frozen.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(RunError, match=r"frozen.safetensors are damaged: .*train anew with --overwrite"):
        train(tmp_path / "run", resume=True, **HALF_FROZEN)
    frozen.unlink()
    with pytest.raises(RunError, match=r"frozen.safetensors is gone.*train anew with --overwrite"):
        train(tmp_path / "run", resume=True, **HALF_FROZEN)


def test_frozen_weights_of_another_training_are_not_gone_on_with(tmp_path: Path) -> None:
    for name, seed in (("run", 0), ("other", 5)):
        stopped_at(tmp_path / name, 12, overrides=[f"training.seed={seed}"], **HALF_FROZEN)
    shutil.copy(tmp_path / "other" / runs.FROZEN, tmp_path / "run" / runs.FROZEN)
    with pytest.raises(RunError, match=r"frozen.safetensors is of another training.*train anew with --overwrite"):
        train(tmp_path / "run", resume=True, **HALF_FROZEN)


@pytest.mark.parametrize("keep", ["best", "soup"])
def test_states_of_an_earlier_release_that_have_all_weights_are_gone_on_with(keep: str, tmp_path: Path) -> None:
    settings = {**HALF_FROZEN, "overrides": [f"training.keep={keep}", "training.epochs=4"]}
    train(tmp_path / "whole", **settings)
    stopped_at(tmp_path / "run", 20, **settings)
    path = tmp_path / "run" / runs.FROZEN
    frozen = runs.read_weights(path)
    told = {
        each.name: runs.write_weights(each, {**runs.read_weights(each), **frozen})
        for each in (tmp_path / "run" / runs.CHECKPOINTS).glob("*.safetensors")
    }
    for name in (runs.CHECKPOINT, runs.EARLIER_CHECKPOINT):
        state = read_state(tmp_path / "run" / name)
        state["model"] |= frozen
        state[BEST_WEIGHTS] = told.get("best.safetensors", "")
        del state[FROZEN_WEIGHTS]
        with (tmp_path / "run" / name).open("wb") as file:
            write_state(file, state)
    path.unlink()
    for step in (24, 28, 30):  # after which neither state is of that release
        stopped_at(tmp_path / "run", step, **settings)
    train(tmp_path / "run", resume=True, **settings)
    assert_same(tmp_path / "run", tmp_path / "whole")


def test_a_folder_of_checkpoints_that_becomes_a_link_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()

    def link(folder: Path) -> None:
        (folder / runs.CHECKPOINTS).rename(tmp_path / "moved")
        (folder / runs.CHECKPOINTS).symlink_to(tmp_path / "elsewhere")

    with monkeypatch.context() as patch:
        run = train(tmp_path / "run", callback=AfterWriting(patch, link), **BETTER_BY_THE_EPOCH)
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert not (run.folder / runs.CHECKPOINTS).is_symlink()
