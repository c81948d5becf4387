"""`mmreg demo`: what it prints and leaves, and what it refuses."""

from __future__ import annotations

import functools
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import mmreg
from mmreg import registry
from mmreg.errors import MmregError, RunError
from mmreg.experiment import open_experiment
from mmreg.recipe.recipe import read_recipe
from mmreg.recipe.resolve import resolve
from mmreg_demo import command
from mmreg_demo.recipes import MODELS, write_recipes


def test_the_command_comes_through_the_hook_of_a_bundled_plugin() -> None:
    plugin = next(plugin for plugin in registry.all_plugins() if plugin.entry_point == "demo")
    assert (plugin.distribution, plugin.status, list(plugin.hooks)) == ("mmreg", "ok", ["mmreg_commands"])


def test_the_demo_trains_every_model_and_prints_one_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "run_demo", functools.partial(command.run_demo, rows=150, epochs=1))
    out = tmp_path / "demo"
    result = CliRunner().invoke(command.app, ["--out", str(out), "--device", "cpu", "--seed", "3"])
    assert result.exit_code == 0, (result.output, result.exception)
    lines = result.stdout.splitlines()
    header = next(line for line in lines if line.startswith("model"))
    assert header.split() == ["model", "accuracy", "precision", "recall", "f1"]
    for name, model in MODELS.items():
        metrics = mmreg.load(out / "runs" / name, device="cpu").report["test"]["metrics"]
        line = next(line for line in lines if line.startswith(f"{model.title}  "))
        shown = [f"{metrics[key]:.3f}" for key in ("accuracy", "precision", "recall", "f1")]
        assert line.removeprefix(model.title).split() == shown
    # Plain lines where stderr is no terminal: one for the data, one for each model; notes are on the few rows.
    told = [line for line in result.stderr.splitlines() if not line.startswith("note: classes without a ")]
    assert [line.split("  ")[0] for line in told] == [
        f"writing 150 pictures, tones and hints to {out}",
        *(model.title for model in MODELS.values()),
    ]
    # What is to be typed next works on what is there.
    for path in re.findall(rf"{re.escape(str(out))}/\S+/(?:product|concat\.yaml)", result.stdout):
        assert Path(path).exists()
    recipe = read_recipe(out / "recipes" / "concat.yaml")
    assert recipe.form.training.seed == 3
    messages = open_experiment(resolve(recipe)).messages
    assert not any("splits share values" in text for text in messages)  # no picture, tone or hint stands in two splits


def test_without_scikit_learn_the_extra_is_named_and_nothing_is_touched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_recipes(tmp_path, 0, 1)
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(MmregError, match=re.escape("pip install 'mmreg[demo]'")) as caught:
        command.run_demo(tmp_path, overwrite=True)
    assert caught.value.exit_code == 2
    assert len(list((tmp_path / "recipes").iterdir())) == len(MODELS)


def test_a_folder_of_something_else_is_refused_whatever_is_said(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "mine.png").touch()
    for overwrite in (False, True):
        with pytest.raises(RunError, match="something else than a demo"):
            command.claim(tmp_path, overwrite)
    assert (tmp_path / "images" / "mine.png").exists()
    with pytest.raises(RunError, match="is a file"):
        command.claim(tmp_path / "images" / "mine.png", True)


def test_a_demo_is_replaced_only_if_asked_and_with_it_only_what_it_wrote(tmp_path: Path) -> None:
    write_recipes(tmp_path, 0, 1)
    (tmp_path / "runs").mkdir()
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match="--overwrite"):
        command.claim(tmp_path, False)
    command.claim(tmp_path, True)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_help_and_unknown_options_go_through_the_mounted_command() -> None:
    helped = run("demo", "--help")
    assert helped.returncode == 0
    assert "--overwrite" in helped.stdout
    wrong = run("demo", "--outt", "x")
    assert wrong.returncode == 2
    assert "--out" in wrong.stderr


@pytest.mark.slow
def test_fusion_is_clearly_better_than_the_best_modality(tmp_path: Path) -> None:
    result = run("demo", "--out", str(tmp_path / "demo"), "--device", "cpu")
    assert result.returncode == 0, result.stderr
    accuracy = {
        name: mmreg.load(tmp_path / "demo" / "runs" / name).report["test"]["metrics"]["accuracy"] for name in MODELS
    }
    alone = [accuracy[name] for name, model in MODELS.items() if model.fusion is None]
    assert all(0.5 < value < 0.85 for value in alone)
    assert min(accuracy["concat"], accuracy["product"]) > max(alone) + 0.1


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mmreg", *arguments], capture_output=True, text=True, timeout=1200, check=False
    )
