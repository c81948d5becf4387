"""The page about many runs names options, statuses and conditions that there are."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
from made_runs import make_run
from small import Caller, call

from mmreg.cli.app import build_app

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "runs.md").read_text(encoding="utf-8")


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Caller:
    return lambda *arguments: call(monkeypatch, capsys, *map(str, arguments))


def test_the_options_that_it_names_are_there() -> None:
    group: Any = typer.main.get_command(build_app())
    known = {option for each in group.params for option in each.opts}
    for name in ("train", "runs"):
        command = group.commands[name]
        for each in (command, *getattr(command, "commands", {}).values()):
            known |= {option for parameter in each.params for option in parameter.opts}
    known |= {"--fusion", "--help"}
    assert set(re.findall(r"--[a-z][a-z-]*", PAGE)) <= known


def test_its_commands_do_what_it_says(cli: Caller, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_run(tmp_path / "runs" / "concat", accuracy=0.862)
    make_run(tmp_path / "runs" / "low_rank", accuracy=0.871, fusion="low_rank")
    make_run(tmp_path / "runs" / "longer", accuracy=None)
    lines = re.findall(r"^(?:\$ )?(mmreg runs .*)$", PAGE, re.MULTILINE)
    assert len(lines) == 5
    for line in lines:
        arguments = shlex.split(line)[1:]
        done = cli(*arguments, *(["--yes"] if arguments[1] == "remove" else []))
        assert done.code == 0, (line, done.err)
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["low_rank"]


def test_the_diff_that_it_shows_is_that_of_such_runs(
    cli: Caller, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make_run(tmp_path / "runs" / "concat", accuracy=0.862)
    make_run(tmp_path / "runs" / "low_rank", accuracy=0.871, fusion="low_rank")
    shown = PAGE.partition("$ mmreg runs diff runs/concat runs/low_rank\n")[2].splitlines()[:2]
    done = cli("runs", "diff", "runs/concat", "runs/low_rank")
    assert done.out.splitlines()[:2] == shown
