"""Signals that end `mmreg train`, wherever it is: while it prepares, in a step, twice, and while it measures."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small import Called, Caller

import mmreg
from mmreg.cli.going_on import to_go_on
from mmreg.studies.compare import grid
from mmreg.training import session, train
from mmreg.training.checkpoint import load_checkpoint
from mmreg.training.loop import Trainer
from mmreg.training.signals import SIGNALS, ending_signals
from mmreg.training.validation import Validation

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")


def send(name: str, times: int = 1) -> None:
    for _ in range(times):
        os.kill(os.getpid(), getattr(signal, name))


def before(function: Callable[..., Any], do: Callable[[], None], call: int = 0) -> Callable[..., Any]:
    """A function that does something else first, in one of its calls."""
    calls = iter(range(1_000_000))

    def both(*arguments: Any, **options: Any) -> Any:
        if next(calls) == call:
            do()
        return function(*arguments, **options)

    return both


@pytest.fixture
def command(cli: Caller, text_recipe: Path, tmp_path: Path) -> Callable[..., Called]:
    """Train a recipe into a folder, with further arguments."""

    def call(*arguments: str, out: str = "run") -> Called:
        chosen = ("--set", "training.epochs=3", "--set", "training.deterministic=true", "--device", "cpu", "-q")
        return cli("train", text_recipe, "--out", tmp_path / out, *chosen, *arguments)

    return call


def assert_goes_on_to_the_same(command: Callable[..., Called], folder: Path) -> None:
    assert command("--resume").code == 0
    assert command(out="whole").code == 0
    for name in ("metrics.csv", "model.safetensors", "report.json"):
        assert (folder / "run" / name).read_bytes() == (folder / "whole" / name).read_bytes()


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 75), ("SIGUSR1", 75), ("SIGHUP", 75)])
def test_a_signal_while_values_are_prepared_ends_at_once(
    command: Callable[..., Called], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, code: int
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(session, "prepare_all", before(session.prepare_all, lambda: send(name)))
        stopped = command()
    assert (stopped.code, stopped.out) == (code, "")
    assert stopped.err.startswith("\nstopped\nthere is no checkpoint yet; begin with:\n  mmreg train ")
    assert stopped.err.endswith(" --resume\n")
    assert_goes_on_to_the_same(command, tmp_path)


@pytest.mark.parametrize(("owner", "place"), [(Trainer, "_take_step"), (Validation, "__call__")])
def test_a_signal_in_a_step_or_a_validation_ends_after_it_with_a_checkpoint(
    command: Callable[..., Called], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: type, place: str
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(owner, place, before(getattr(owner, place), lambda: send("SIGTERM"), 1))
        stopped = command()
    step = load_checkpoint(tmp_path / "run")[0]["progress"]["step"]
    assert stopped.code == 75
    assert f"stopped after step {step} of" in stopped.err
    assert f"{tmp_path / 'run'} as of its last checkpoint; go on with:\n  mmreg train " in stopped.err
    assert "mmreg finish" in stopped.err
    assert_goes_on_to_the_same(command, tmp_path)


def test_a_second_signal_ends_at_once(
    command: Callable[..., Called], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[int] = []
    take_step = Trainer._take_step

    def taking(trainer: Trainer, *arguments: Any) -> None:
        if len(steps) == 4:
            send("SIGTERM", 2)
        steps.append(trainer.progress.step)
        take_step(trainer, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_take_step", taking)
        stopped = command()
    assert len(steps) == 4
    assert stopped.code == 75
    assert stopped.err.startswith("\nstopped\n")
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert_goes_on_to_the_same(command, tmp_path)


def test_a_terminal_that_says_twice_that_it_is_closed_ends_the_training_after_its_step(
    command: Callable[..., Called], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_take_step", before(Trainer._take_step, lambda: send("SIGHUP", 2), 1))
        stopped = command()
    assert stopped.code == 75
    assert load_checkpoint(tmp_path / "run")[0]["progress"]["step"] == 2
    assert_goes_on_to_the_same(command, tmp_path)


def test_a_closed_terminal_ends_nothing_that_nohup_has_started(
    command: Callable[..., Called], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        monkeypatch.setattr(Trainer, "_take_step", before(Trainer._take_step, lambda: send("SIGHUP"), 1))
        assert command().code == 0
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        assert signal.SIGHUP not in ending_signals()
    finally:
        signal.signal(signal.SIGHUP, handler)
    assert signal.SIGHUP in ending_signals()


@pytest.mark.parametrize(("owner", "place"), [(session, "fit_fusions"), (session.Session, "_report")])
def test_a_signal_while_the_end_is_measured_keeps_all_that_was_trained(
    command: Callable[..., Called], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: Any, place: str
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(owner, place, before(getattr(owner, place), lambda: send("SIGTERM")))
        stopped = command()
    assert stopped.code == 75
    assert "go on with:" in stopped.err
    assert not (tmp_path / "run" / "model.safetensors").exists()
    assert_goes_on_to_the_same(command, tmp_path)


def test_handlers_are_the_commands_alone_and_put_back(
    command: Callable[..., Called], text_recipe: Path, tmp_path: Path
) -> None:
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    seen: list[dict[int, Any]] = []

    class Looking(mmreg.Callback):
        def on_step(self, step: Any) -> None:
            seen.append({number: signal.getsignal(number) for number in SIGNALS})

    train.train(text_recipe, tmp_path / "python", device="cpu", callback=Looking())
    assert all(each == handlers for each in seen)
    assert command().code == 0
    assert {number: signal.getsignal(number) for number in SIGNALS} == handlers


def test_help_tells_of_signals_and_exit_codes(cli: Caller) -> None:
    told = " ".join(cli("train", "--help").out.split())
    assert "Ctrl-C, SIGTERM, SIGUSR1 and a closed terminal" in told
    assert "130 after Ctrl-C, and 75" in told


def test_with_overwrite_the_run_that_is_still_there_is_not_taken_for_what_was_stopped(
    command: Callable[..., Called], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert command().code == 0
    with monkeypatch.context() as patch:
        patch.setattr(session, "prepare_all", before(session.prepare_all, lambda: send("SIGTERM")))
        stopped = command("--overwrite", "--seed", "3")
    assert stopped.code == 75
    assert f"the run in {tmp_path / 'run'} is as it was; the same command begins anew" in stopped.err
    assert "--resume" not in stopped.err


def test_going_on_with_nothing_is_told(command: Callable[..., Called], tmp_path: Path) -> None:
    begun = command("--resume")
    assert begun.code == 0
    assert f"note: there is no run in {str(tmp_path / 'run')!r} to go on with: it begins" in begun.err


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 75)])
def test_comparisons_and_the_search_for_a_rate_are_ended_alike(
    cli: Caller,
    command: Callable[..., Called],
    text_recipe: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    code: int,
) -> None:
    monkeypatch.setattr(grid, "run_grid", before(grid.run_grid, lambda: send(name)))
    compared = cli("compare", text_recipe, "--seeds", "0..1", "--out", tmp_path / "compared", "-q")
    assert compared.code == code
    assert "the same command goes on from there" in compared.err
    monkeypatch.setattr(Trainer, "_take_step", before(Trainer._take_step, lambda: send(name), 3))
    tried = command("--find-lr")
    assert tried.code == code
    assert "stopped; nothing is kept of it" in tried.err


@pytest.mark.parametrize("options", [["--", "-text.yaml"], ["--overwrite", "--", "-text.yaml"], ["./-text.yaml"]])
def test_what_is_printed_goes_on_whatever_folders_and_recipes_are_called(
    cli: Caller, text_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    text_recipe.rename(tmp_path / "-text.yaml")
    words = ["train", "--device", "cpu", "--out=-run", *options]
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_take_step", before(Trainer._take_step, lambda: send("SIGTERM"), 2))
        stopped = cli(*words)
    assert stopped.code == 75
    onward, _, finish = (line.strip() for line in stopped.err.splitlines()[-3:])
    assert shlex.split(finish) == ["mmreg", "finish", "./-run"]
    done = cli(*shlex.split(onward)[1:])
    assert done.code == 0, done.err
    assert "has ended, and is a run: mmreg evaluate ./-run" in cli(*shlex.split(finish)[1:]).err
    proposed = next(line.strip() for line in done.out.splitlines() if "mmreg evaluate" in line)
    assert cli(*shlex.split(proposed)[1:]).code == 0


def test_a_comparison_that_is_stopped_says_what_to_type(
    cli: Caller, text_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["compare", str(text_recipe), "--seeds", "0..1", "--out", f"{tmp_path}/com pared", "-q"]
    monkeypatch.setattr(grid, "run_grid", before(grid.run_grid, lambda: send("SIGTERM")))
    assert shlex.split(cli(*words).err.splitlines()[-1]) == ["mmreg", *words]


def test_no_word_before_the_name_of_a_command_is_taken_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    first = ["mmreg", "--no-plugin", "demo", "--no-plugin=track", "train"]
    monkeypatch.setattr("sys.argv", [*first, "--out", "--", "r.yaml"])
    assert to_go_on() == f"{shlex.join(first)} --resume --out -- r.yaml"
