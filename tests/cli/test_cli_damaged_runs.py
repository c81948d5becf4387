"""What is wrong with a run's folder is said in the same words by every command that uses a run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from small import Caller

USES = {
    "predict": ["predict", "run", "table.csv"],
    "evaluate": ["evaluate", "run"],
    "embed": ["embed", "run", "table.csv", "--out", "vectors.parquet"],
    "explain": ["explain", "run", "table.csv"],
    "export": ["export", "run", "--out", "run.pt2"],
    "serve": ["serve", "run", "--port", "0"],
    "report": ["report", "run"],
    "card": ["card", "run"],
}
"""How each command is called with a run; none of them gets as far as using it."""


def remove(name: str) -> Callable[[Path], None]:
    return lambda run: (run / name).unlink()


def cut(name: str) -> Callable[[Path], None]:
    return lambda run: (run / name).write_bytes((run / name).read_bytes()[:100])


def edit(run: Path) -> None:
    facts = json.loads((run / "components.json").read_text())
    (run / "components.json").write_text(json.dumps({**facts, "torch": "0.0"}))


def link(name: str) -> Callable[[Path], None]:
    def linked(run: Path) -> None:
        (run / name).rename(run.parent / name)
        (run / name).symlink_to(run.parent / name)

    return linked


def stop(run: Path) -> None:
    (run / "model.safetensors").unlink()
    (run / "report.json").unlink()


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "nothing there": (shutil.rmtree, "there is no run folder 'run'"),
    "no run": (remove("components.json"), "'run' is no run folder: it has no components.json"),
    "cut": (cut("components.json"), "run/components.json is damaged: "),
    "edited": (edit, "run/components.json is damaged, or was edited: it does not fit its checksum; train again"),
    "components linked": (link("components.json"), "run/components.json is a symbolic link"),
    "recipe linked": (link("recipe.yaml"), "run/recipe.yaml is a symbolic link"),
    "weights linked": (link("model.safetensors"), "run/model.safetensors is a symbolic link"),
    "no recipe": (remove("recipe.yaml"), "the run run cannot be loaded: its recipe.yaml is gone"),
    "no weights": (remove("model.safetensors"), "the training of run has lost its weights; go on with: mmreg train"),
    "unfinished": (stop, "the training of run did not end; go on with: mmreg train RECIPE --out run --resume, or make"),
}
UNMEASURED: dict[str, tuple[Callable[[Path], object], str]] = {
    "no report": (remove("report.json"), "what the training of run measured cannot be read: its report.json is gone"),
    "report cut": (cut("report.json"), "what the training of run measured cannot be read: report.json: "),
    "report linked": (link("report.json"), "run/report.json is a symbolic link"),
}
"""What those mind who tell what a training came to."""


@pytest.fixture
def copy(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of a run, as `run` in the working directory."""
    shutil.copytree(trained / "run", tmp_path / "run")
    shutil.copy(trained / "table.csv", tmp_path / "table.csv")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "run"


def said(cli: Caller, command: str) -> str:
    """What a command says before it ends with exit code 2."""
    done = cli(*USES[command], *([] if command in ("card", "export") else ["--device", "cpu"]))
    assert (done.code, done.out) == (2, "")
    return done.err


@pytest.mark.parametrize("damage", DAMAGES)
def test_all_commands_say_the_same_of_a_folder_that_cannot_be_used(copy: Path, cli: Caller, damage: str) -> None:
    break_it, message = DAMAGES[damage]
    break_it(copy)
    texts = {command: said(cli, command) for command in USES}
    assert message in texts["predict"]
    # A report is also made of what others refuse.
    texts["report"] = texts["report"].replace(", and no comparison or search is in it", "")
    assert texts == dict.fromkeys(USES, texts["predict"])


@pytest.mark.parametrize("damage", UNMEASURED)
def test_a_run_whose_figures_cannot_be_read_can_be_used_and_not_told_of(
    copy: Path, cli: Caller, damage: str, trained: Path
) -> None:
    break_it, message = UNMEASURED[damage]
    break_it(copy)
    texts = {command: said(cli, command) for command in ("report", "card")}
    assert message in texts["card"]
    assert texts["report"] == texts["card"]
    assert cli("predict", "run", trained / "table.csv", "--device", "cpu").code == 0


@pytest.mark.parametrize("killed", ["before its figures", "before its weights", "before its recipe"])
def test_runs_are_combined_again_where_that_was_killed(copy: Path, cli: Caller, trained: Path, killed: str) -> None:
    shutil.copytree(copy, copy.parent / "other")
    again = ["fuse", "run", "other", "--fusion", "mean", "--out", "both", "--overwrite"]
    assert cli(*again, "--device", "cpu", "--quiet").code == 0
    there = {path.name: path for path in (copy.parent / "both").rglob("*") if path.is_file()}
    gone = {
        "before its weights": ["model.safetensors"],
        "before its figures": ["model.safetensors", "report.json"],
        "before its recipe": there.keys() - {"components.json"},
    }
    for name in gone[killed]:
        there[name].unlink()
    before = {path: path.read_bytes() for path in (copy.parent / "both").rglob("*") if path.is_file()}
    told = "the combination of runs in both is not whole; combine them again: mmreg fuse run other --fusion OPERATOR "
    for command in (
        ("evaluate", "both"),
        ("train", "run/recipe.yaml", "--out", "both", "--resume"),
        ("finish", "both"),
    ):
        done = cli(*command, "--device", "cpu")
        assert (done.code, done.out) == (2, "")
        assert f"{told}--out both --overwrite" in done.err
    assert {path: path.read_bytes() for path in (copy.parent / "both").rglob("*") if path.is_file()} == before
    assert cli(*again, "--device", "cpu", "--quiet").code == 0
    assert cli("predict", "both", trained / "table.csv", "--device", "cpu").code == 0
