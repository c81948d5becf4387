"""Trainings in threads of one process give what they give alone, or are refused."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
import toys
from toys import Linear, train

from mmreg import Features, Signal, registry, runs
from mmreg.errors import DeviceError
from mmreg.model.devices import deterministic
from mmreg.model.seeding import random_state_kept


@pytest.fixture(autouse=True)
def _toys() -> None:
    toys.register()


class Meeting(Linear):
    """Waits, once it may draw, for another thread that may; in vain where only one may at a time."""

    barrier: ClassVar[threading.Barrier | None] = None

    def forward(self, signal: Signal) -> Features:
        if self.training and self.barrier is not None:
            with contextlib.suppress(threading.BrokenBarrierError):
                self.barrier.wait(1)
        return super().forward(signal)


@pytest.fixture
def _meeting() -> Iterator[None]:
    registry.register("encoder", "meeting", Meeting)
    yield
    Meeting.barrier = None
    registry.unregister("encoder", "meeting")


def noisy(dropout: float) -> dict[str, Any]:
    encoder = {"name": "meeting", "dropout": dropout}
    return {"modalities": {name: {"type": "numbers", "noise": 0.1, "encoder": encoder} for name in "ab"}}


def in_threads(*calls: Callable[[], object]) -> list[BaseException]:
    failures: list[BaseException] = []

    def run(call: Callable[[], object]) -> None:
        try:
            call()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return failures


@pytest.mark.usefixtures("_meeting")
def test_trainings_in_threads_give_what_they_give_alone(tmp_path: Path) -> None:
    shares = {"one": 0.2, "two": 0.5}
    for name, share in shares.items():
        train(tmp_path / name, **noisy(share))
    before = torch.random.get_rng_state()
    Meeting.barrier = threading.Barrier(2)
    together = {name: tmp_path / f"{name}_beside" for name in shares}

    def beside(name: str) -> Callable[[], object]:
        return lambda: train(together[name], **noisy(shares[name]))

    assert in_threads(*map(beside, shares)) == []
    for name, folder in together.items():
        alone, beside_another = (runs.read_weights(place / runs.WEIGHTS) for place in (tmp_path / name, folder))
        assert all(torch.equal(beside_another[key], tensor) for key, tensor in alone.items())
        assert (folder / runs.METRICS).read_bytes() == (tmp_path / name / runs.METRICS).read_bytes()
    assert torch.equal(torch.random.get_rng_state(), before)


def test_one_setting_of_deterministic_at_a_time() -> None:
    def other() -> None:
        with deterministic(False):
            pass

    with deterministic(True):
        (error,) = in_threads(other)
        assert isinstance(error, DeviceError)
        assert "one after the other, or in processes of their own" in str(error)
        with deterministic(False):  # in the same thread, as a callback that trains
            assert torch.are_deterministic_algorithms_enabled()
    assert not torch.are_deterministic_algorithms_enabled()


def test_the_setting_is_put_back_by_the_last_that_needs_it() -> None:
    entered, leave = threading.Event(), threading.Event()

    def other() -> None:
        with deterministic(True):
            entered.set()
            leave.wait(60)

    thread = threading.Thread(target=other)
    with deterministic(True):
        thread.start()
        entered.wait(60)
    assert torch.are_deterministic_algorithms_enabled()
    leave.set()
    thread.join()
    assert not torch.are_deterministic_algorithms_enabled()


def test_the_random_state_is_that_from_before_the_first_of_several_that_keep_it() -> None:
    before = torch.random.get_rng_state()
    first, second = (random_state_kept(torch.device("cpu")) for _ in range(2))
    for keeping in (first, second):
        keeping.__enter__()
        torch.rand(3)
    for keeping in (first, second):  # the one that came first ends first, as threads may
        keeping.__exit__(None, None, None)
    assert torch.equal(torch.random.get_rng_state(), before)
