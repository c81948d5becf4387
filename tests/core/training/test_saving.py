"""Writing a training's state beside it: who waits for whom, what is copied, what an error leaves."""

from __future__ import annotations

import errno
import os
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import toys
from toys import NOISY, assert_same, train

import mmreg
from mmreg import runs
from mmreg.errors import TrainingError
from mmreg.recipe.training_form import Checkpoint
from mmreg.training import saving
from mmreg.training.checkpoint import load_checkpoint
from mmreg.training.nonfinite import NonFiniteError
from mmreg.training.saving import Kept, Saver, copied_to_host

NEVER = Checkpoint(minutes=None)


@pytest.fixture(autouse=True)
def _toys() -> None:
    toys.register()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / runs.CHECKPOINTS).mkdir()
    return tmp_path


def state(step: int, value: float = 0.0) -> dict[str, Any]:
    progress = {"epoch": 0, "step": step, "history": [], "best": None, "stale": 0, "finished": False}
    return {"model": {"weight": torch.full((3,), value), "mask": torch.tensor([-torch.inf])}, "progress": progress}


class Held:
    """A writer that waits until it is let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.began, self.go = threading.Event(), threading.Event()
        self.written: list[int] = []
        save = saving.save_checkpoint

        def held(folder: Path, state: dict[str, Any]) -> None:
            self.began.set()
            assert self.go.wait(60)
            self.written.append(state["progress"]["step"])
            save(folder, state)

        monkeypatch.setattr(saving, "save_checkpoint", held)


def test_a_training_does_not_wait_for_a_write_and_what_waits_gives_way(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held(monkeypatch)
    with Saver(folder, Checkpoint(steps=1)) as saver:
        saver.save(Kept(state=state(1)), 1)
        assert held.began.wait(60)
        assert not saver.is_due(9)  # as something is being written
        saver.save(Kept(metrics="two", state=state(2)), 2)
        saver.save(Kept(timings="three", state=state(3)), 3)
        assert saver.kept == 0
        held.go.set()
    assert held.written == [1, 3]
    assert saver.kept == 3
    assert (folder / runs.METRICS).read_text() == "two"
    assert (folder / runs.TIMINGS).read_text() == "three"
    assert load_checkpoint(folder)[0]["progress"]["step"] == 3


def test_what_is_written_is_the_state_of_when_it_was_handed_over(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held, given = Held(monkeypatch), state(1, 5.0)
    with Saver(folder, NEVER) as saver:
        saver.save(Kept(state=given), 1)
        given["model"]["weight"].zero_()
        given["progress"]["history"].append("later")
        held.go.set()
    kept = load_checkpoint(folder)[0]
    assert kept["model"]["weight"].tolist() == [5.0] * 3
    assert kept["progress"]["history"] == []


def test_a_copy_keeps_what_is_shared_and_what_a_state_knows_of_versions() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    given = model.state_dict()
    copied, ready = copied_to_host(
        Kept(best=model.state_dict(), state={"model": given, "pair": (1, [given["0.bias"]])})
    )
    ready()
    assert copied.state is not None
    assert copied.best is not None
    own = copied.state["model"]
    assert own._metadata == given._metadata  # type: ignore[attr-defined]
    assert all(torch.equal(own[name], given[name]) for name in given)
    assert not any(own[name].data_ptr() == given[name].data_ptr() for name in given)
    assert own["0.weight"] is copied.best["0.weight"]
    assert own["0.bias"] is copied.state["pair"][1][0]


@pytest.mark.parametrize(
    "tensor",
    [
        torch.arange(6, dtype=torch.float64).reshape(2, 3).T,
        torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        torch.randn(4, 6)[1:, ::2],
        torch.randn(3, 1).expand(3, 5),
        torch.tensor([1.5, -torch.inf, torch.nan]).bfloat16(),
        torch.tensor([0.5, 240.0]).to(torch.float8_e4m3fn),
        torch.randn(5).half(),
        torch.tensor([True, False]),
        torch.tensor(7),
        torch.empty(0, 3),
        torch.randn(2, dtype=torch.complex64).conj(),
        torch.randn(2, dtype=torch.complex64).conj().imag,
        torch.randn(2, dtype=torch.complex128),
        torch.nn.Parameter(torch.randn(2)),
    ],
    ids=lambda tensor: f"{tensor.dtype}{list(tensor.shape)}",
)
def test_a_copy_is_the_same_to_the_bit_and_lies_elsewhere(tensor: torch.Tensor) -> None:
    copied, ready = copied_to_host(Kept(best={"it": tensor}))
    ready()
    assert copied.best is not None
    (copy,) = copied.best.values()
    assert (copy.dtype, copy.stride(), copy.requires_grad) == (tensor.dtype, tensor.detach().clone().stride(), False)
    assert not tensor.numel() or copy.data_ptr() != tensor.data_ptr()
    as_numbers = torch.complex128 if tensor.is_complex() else torch.float64
    found, given = (each.detach().to(as_numbers) for each in (copy, tensor))
    torch.testing.assert_close(found, given, rtol=0, atol=0, equal_nan=True)


def test_a_copy_waits_for_no_thread_of_torch() -> None:
    """Which takes 20 times as long where another process keeps one of them from a core."""
    with torch.profiler.profile(acc_events=True) as profile:
        copied_to_host(Kept(state={"model": {"large": torch.zeros(1 << 20)}}))
    names = {event.key for event in profile.key_averages()}
    assert "aten::detach" in names  # that it has seen anything
    assert not names & {"aten::copy_", "aten::clone"}


def test_what_is_written_is_given_up(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its memory is there for the next copy."""
    copies = []
    save = saving.save_checkpoint

    def noted(folder: Path, state: dict[str, Any]) -> None:
        copies.append(weakref.ref(state["model"]["weight"]))
        save(folder, state)

    monkeypatch.setattr(saving, "save_checkpoint", noted)
    with Saver(folder, Checkpoint(steps=1)) as saver:
        saver.save(Kept(state=state(1)), 1)
        deadline = time.monotonic() + 60
        while not saver.is_due(2) and time.monotonic() < deadline:
            time.sleep(0.001)
        assert saver.kept == 1
        assert copies[0]() is None


@pytest.mark.gpu
def test_copies_from_a_gpu_are_of_the_state_at_that_time_without_a_wait() -> None:
    large = torch.zeros(1 << 26, device="cuda")
    torch.cuda.synchronize()
    before = torch.cuda.get_sync_debug_mode()
    copied_to_host(Kept(best={"large": large}))[1]()  # pinned memory is there from now on
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(20):
            large += 1
        copied, ready = copied_to_host(Kept(best={"large": large}))
        large.fill_(-1)
    finally:
        torch.cuda.set_sync_debug_mode(before)
    ready()
    assert copied.best is not None
    assert copied.best["large"].is_pinned()
    assert bool((copied.best["large"] == 20).all())


def test_a_state_is_due_by_steps_or_minutes_whichever_comes_first(folder: Path) -> None:
    now = [0.0]
    with Saver(folder, Checkpoint(minutes=2, steps=10), 5, clock=lambda: now[0]) as saver:
        assert not saver.is_due(14)
        assert saver.is_due(15)
        now[0] = 119
        assert not saver.is_due(6)
        now[0] = 120
        assert saver.is_due(6)
        assert not saver.is_due(5)  # at which nothing is new
        saver.save(Kept(metrics=""), 6)
        assert not saver.is_due(15)
    with Saver(folder, NEVER, clock=lambda: now[0]) as saver:
        now[0] = 1e9
        assert not saver.is_due(1_000_000)


def test_an_error_reaches_the_training_and_ends_the_thread(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "last.pt")

    monkeypatch.setattr(saving, "save_checkpoint", full)
    saver = Saver(folder, NEVER).__enter__()
    saver.save(Kept(state=state(1)), 1)
    saver._thread.join()
    with pytest.raises(OSError, match=r"No space left.*last\.pt"):
        saver.save(Kept(state=state(2)), 2)
    with pytest.raises(OSError, match="No space left"):
        saver.__exit__(None, None, None)
    assert not any(thread.name == "mmreg-checkpoints" for thread in threading.enumerate())


def test_the_thread_is_joined_whatever_ends_the_training(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = Held(monkeypatch)
    saver = Saver(folder, NEVER).__enter__()
    saver.save(Kept(state=state(1)), 1)
    held.go.set()
    saver.__exit__(ZeroDivisionError, ZeroDivisionError())
    assert held.written == [1]
    assert not any(thread.name == "mmreg-checkpoints" for thread in threading.enumerate())


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_weights_that_are_not_finite_replace_no_checkpoint(folder: Path, bad: float) -> None:
    with Saver(folder, NEVER, weights={"weight"}) as saver:
        saver.save(Kept(state=state(1, 5.0)), 1)
    before = (folder / runs.CHECKPOINT).read_bytes()
    for kept in (Kept(state=state(2, bad)), Kept(best={"weight": torch.tensor(bad)}, state=state(2))):
        with (
            pytest.raises(NonFiniteError, match=r"no longer finite numbers \(weight\)"),
            Saver(folder, NEVER, 1, {"weight"}) as saver,
        ):
            saver.save(kept, 2)
        assert saver.kept == 1
        assert (folder / runs.CHECKPOINT).read_bytes() == before
        assert not (folder / runs.BEST).exists()


def test_a_full_disk_in_the_background_ends_the_training_and_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(tmp_path / "whole", **NOISY)
    save, calls = saving.save_checkpoint, iter(range(1000))

    def fail_later(folder: Path, state: dict[str, Any]) -> None:
        if next(calls) == 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder / runs.CHECKPOINT))
        save(folder, state)

    with monkeypatch.context() as patch:
        patch.setattr(saving, "save_checkpoint", fail_later)
        with pytest.raises(OSError, match="No space left on device"):
            train(tmp_path / "run", **{**NOISY, "overrides": ["training.checkpoint={steps: 2}"]})
    assert load_checkpoint(tmp_path / "run")[1] == ""
    train(tmp_path / "run", resume=True, **NOISY)
    assert_same(tmp_path / "run", tmp_path / "whole")


def removing(folder: Path, at: int, then: Callable[[], None] = lambda: None) -> mmreg.Callback:
    """Removes a folder in a step."""

    class Removing(mmreg.Callback):
        def on_step(self, step: Any) -> None:
            if step.step == at:
                folder.rename(folder.with_name("moved"))
                then()

    return Removing()


def test_a_folder_that_is_removed_under_a_training_is_told_and_not_made_again(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with pytest.raises(TrainingError, match=r"run', or what is in it, was removed while this training wrote to it"):
        train(folder, callback=removing(folder, 15), **NOISY)
    assert not folder.exists()
    train(tmp_path / "moved", resume=True, **NOISY)
    train(tmp_path / "whole", **NOISY)
    assert_same(tmp_path / "moved", tmp_path / "whole")


def test_a_folder_that_is_replaced_under_a_training_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "run"

    def replace() -> None:
        with runs.writing(folder):
            (folder / "theirs").write_text("of another training")
        (folder / runs.LOCK).write_text("of another training")

    with pytest.raises(TrainingError, match="run' is another folder now than the one that this training wrote to"):
        train(folder, callback=removing(folder, 7, replace), **NOISY)
    assert {path.name for path in folder.iterdir()} == {"theirs", runs.LOCK}


def test_an_empty_folder_in_place_of_the_one_of_a_training_stays(tmp_path: Path) -> None:
    folder = tmp_path / "above" / "run"
    with pytest.raises(TrainingError, match="run' is another folder now than the one that this training wrote to"):
        train(folder, callback=removing(folder, 7, folder.mkdir), **NOISY)
    assert folder.is_dir()
    assert list(folder.iterdir()) == []
    assert (tmp_path / "above" / "moved").is_dir()


def test_a_lock_that_is_replaced_under_a_training_is_told_and_stays(tmp_path: Path) -> None:
    with runs.writing(tmp_path / "run") as check:
        (tmp_path / "run" / runs.LOCK).rename(tmp_path / "moved")
        with pytest.raises(TrainingError, match="run', or what is in it, was removed while this training wrote to it"):
            check()
        (tmp_path / "run" / runs.LOCK).write_text("of another training")
        with pytest.raises(TrainingError, match="was replaced by another while this training wrote to it"):
            check()
    assert (tmp_path / "run" / runs.LOCK).read_text() == "of another training"


def test_a_folder_that_is_removed_while_the_end_is_measured_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mmreg.training.session import Session

    report, folder = Session._report, tmp_path / "run"

    def removing_first(session: Session, *arguments: Any) -> Any:
        folder.rename(tmp_path / "moved")
        return report(session, *arguments)

    monkeypatch.setattr(Session, "_report", removing_first)
    with pytest.raises(TrainingError, match="was removed while this training wrote to it"):
        train(folder, **NOISY)
