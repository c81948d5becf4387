"""What a training says of its time: the estimate, the limit, signs of life, and how to finish it."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from small import Caller

import mmreg
from mmreg.cli.pace import Pace
from mmreg.console import Bar, Heartbeat
from mmreg.contract.callback import Step

FACTS: dict[str, Any] = {
    "rows": {"train": 1000, "validation": 500, "test": 250},
    "epochs": 10,
    "resumed_after_epoch": 0,
}


class Clock:
    """A clock that is set."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def estimates(pace: Pace, clock: Clock, seconds: float, steps: int, batch_size: int = 10) -> list[str]:
    """What is told after each of the first steps, each of which takes so long."""
    told = []
    for number in range(1, steps + 1):
        clock.now += seconds
        told.append(pace.estimate(Step(1, number, 1000, batch_size, float)))
    return told


def test_the_estimate_counts_the_rows_that_are_trained_on_and_those_that_are_measured() -> None:
    clock = Clock()
    told = estimates(Pace(FACTS, None, clock), clock, 0.5, 12)
    # From the third step to the ninth it is 3 s for 60 rows. 991 steps of 10 rows are left; eleven times 500
    # validation rows and 250 test rows take 0.4 of it: (9910 + 0.4 * 5750) * 0.05 s = 610 s.
    assert [number for number, text in enumerate(told, 1) if text] == [9]
    assert told[8] == "about 10 minutes from here; --max-minutes 3 stops there with the best weights"


def test_a_limit_is_told_beside_the_estimate_and_a_short_training_is_offered_none() -> None:
    clock = Clock()
    told = estimates(Pace(FACTS, 5, clock), clock, 0.5, 9)[-1]
    assert told == "about 10 minutes from here; max_minutes: 5 ends it before"
    told = estimates(Pace(FACTS, None, clock), clock, 3.0, 4, batch_size=640)[-1]
    assert re.fullmatch("about [0-9,]+ (minutes|hours?).*max-minutes.*", told)
    told = estimates(Pace({**FACTS, "epochs": 1}, None, clock), clock, 3.0, 4, batch_size=100_000)[-1]
    assert "max-minutes" in told


def test_something_is_said_after_half_a_minute_of_silence() -> None:
    said: list[str] = []
    clock = Clock()
    heartbeat = Heartbeat(said.append, clock)
    clock.now = 40
    heartbeat.beat()
    assert said == []  # nothing is going on yet
    heartbeat.doing("step 1 of 9")
    heartbeat.beat()
    clock.now = 69
    heartbeat.beat()
    assert said == ["step 1 of 9"]
    heartbeat.said()
    clock.now = 98
    heartbeat.beat()
    assert said == ["step 1 of 9"]
    clock.now = 99
    heartbeat.beat()
    assert said == ["step 1 of 9"] * 2


def test_where_there_is_no_bar_a_sign_of_life_says_how_far_things_are() -> None:
    said: list[str] = []
    bar = Bar(sign_of_life=said.append)
    assert bar._heartbeat is not None
    bar._heartbeat._clock = clock = Clock()
    bar.line("a line", said.append)
    bar.advance("training", 3, 1000, "12 samples/s")
    clock.now = 31
    bar._heartbeat.beat()
    assert said == ["a line", "training: 3 of 1,000 (12 samples/s)"]


def test_a_heartbeat_ends_with_its_block() -> None:
    with Heartbeat(print) as heartbeat:
        thread = heartbeat._thread
        assert thread.is_alive()
    assert not thread.is_alive()


def test_a_training_of_limited_time_is_a_whole_run_that_goes_on(cli: Caller, text_recipe: Path, tmp_path: Path) -> None:
    many = ("--set", "training.epochs=100000")
    limited = cli("train", text_recipe, "--out", tmp_path / "run", "--max-minutes", "0.01", *many)
    assert limited.code == 0
    within = r"( \(step .*\))?"  # unless the time is over just at an epoch's end
    ended = rf"note: ended in epoch \d+ of 100000{within}, as max_minutes: 0.01 says; go on by --resume"
    assert re.search(ended, limited.err)
    assert "Accuracy" in limited.out
    epochs = mmreg.load(tmp_path / "run").report["epochs"]
    extended = cli(
        "train", text_recipe, "--out", tmp_path / "run", "--resume", "--set", f"training.epochs={epochs + 1}"
    )
    resumed = rf"resumed (after epoch {epochs} of|in epoch {epochs} of) {epochs + 1}"
    assert extended.code == 0
    assert re.search(resumed, extended.out)


def test_a_stopped_training_says_how_to_finish_it_and_that_does(
    cli: Caller, text_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mmreg.cli import display

    def stop(self: display.Display, step: Step) -> None:
        if step.epoch == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(display.Display, "on_step", stop)
    stopped = cli("train", text_recipe, "--out", tmp_path / "run")
    monkeypatch.undo()
    assert stopped.code == 130
    command = stopped.err.splitlines()[-1].strip()
    assert command == f"mmreg finish {tmp_path / 'run'}"
    finished = cli(*shlex.split(command)[1:])
    assert finished.code == 0
    assert "Accuracy" in finished.out
    assert mmreg.load(tmp_path / "run").report["epochs"] == 1
    again = cli(*shlex.split(command)[1:])
    assert (again.code, "has ended, and is a run" in again.err) == (2, True)


def test_accepting_changes_goes_with_resuming(cli: Caller, text_recipe: Path) -> None:
    done = cli("train", text_recipe, "--accept-changes")
    assert (done.code, "--accept-changes goes with --resume" in done.err) == (2, True)
