"""`mmreg tune`: what it prints, and its exit codes."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from small import Called, call
from typer.testing import CliRunner

import mmreg
from mmreg import registry
from mmreg_tune import study
from mmreg_tune.command import app


def run(*arguments: str | Path) -> Any:
    return CliRunner().invoke(app, [*map(str, arguments), "--device", "cpu"])


def test_the_command_comes_through_the_hook_of_a_bundled_plugin() -> None:
    plugin = next(plugin for plugin in registry.all_plugins() if plugin.entry_point == "tune")
    assert (plugin.distribution, plugin.status, list(plugin.hooks)) == (
        "mmreg",
        "ok",
        ["mmreg_commands", "mmreg_sections"],
    )


def test_it_shows_the_best_trials_and_what_to_do_next(recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "tuned"
    result = run(recipe, "--trials", "2", "--pruner", "none", "--out", out)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == "The best of 2 trials: 2 finished"
    assert lines[1].split("  ")[:2] == ["trial", "validation accuracy"]
    assert "training.optimizer.lr" in lines[1]
    assert f"mmreg train {out}/best.yaml --out run" in lines[-1]
    told = [line for line in result.stderr.splitlines() if line.startswith("[")]
    assert [line.split()[0] for line in told] == ["[1/2]", "[2/2]"]
    assert all(re.search(r"trial \d finished, validation accuracy 0\.\d+", line) for line in told)
    again = run(recipe, "--trials", "2", "--out", out, "--format", "json", "-q")
    assert (again.exit_code, again.stderr) == (0, "")
    document = json.loads(again.stdout)
    assert document["metric"] == "accuracy"
    assert len(document["trials"]) == 2
    assert document["trials"][document["best"]]["value"] == max(trial["value"] for trial in document["trials"])


def test_a_wish_to_stop_ends_it_with_the_command_that_goes_on(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = mmreg.train

    def stopped(*arguments: Any, **options: Any) -> Any:
        options["stop"].wanted = True
        return train(*arguments, **options)

    monkeypatch.setattr(study.mmreg, "train", stopped)
    monkeypatch.setattr(sys, "argv", ["mmreg", "tune", "search.yaml"])
    result = run(recipe, "--out", tmp_path / "tuned")
    assert result.exit_code == 130
    assert result.stderr.endswith("the same command goes on:\n  mmreg tune search.yaml\n")


def test_without_optuna_the_extra_is_named(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(mmreg.MmregError, match=re.escape("pip install 'mmreg[tune]'")) as caught:
        study.tune(recipe, tmp_path / "tuned")
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("command", ["train", "validate", "compare"])
def test_other_commands_say_what_a_recipe_with_open_values_is_for(
    recipe: Path, command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(recipe.parent)
    called: Called = call(monkeypatch, capsys, command, "search.yaml")
    assert called.code == 2
    assert "line 9, training.optimizer.lr: is left open" in called.err
    assert "mmreg tune search.yaml" in called.err


def test_importing_the_command_imports_neither_torch_nor_optuna() -> None:
    import subprocess

    code = "import sys, mmreg_tune.command; print({'torch', 'optuna'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"
