"""Commands among plugins that are costly, noisy or share a name, and metadata that are damaged or there twice."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
from faulty_plugins import one_encoder
from wheels import several

COMMANDS = {
    "doctor": ["doctor", "--format", "json"],
    "list": ["list", "--format", "json"],
    "help": ["--help"],
    "train": ["train", "recipe.yaml", "--out", "run", "--quiet", "--device", "cpu"],
    "evaluate": ["evaluate", "run", "--format", "json", "--device", "cpu"],
    "predict": ["predict", "run", "table.csv", "--device", "cpu"],
    "compare": [
        *["compare", "recipe.yaml", "--fusion", "concat,sum", "--seeds", "0", "--no-singles", "--out", "grid"],
        *["--format", "json", "--device", "cpu"],
    ],
}

RECIPE = """
table: table.csv
split: split
target: {column: label, task: classification}
modalities:
  first: {type: text, column: first, encoder: mmreg-depth}
  second: {type: text, column: second, encoder: chatty}
  third: {type: text, column: second, encoder: mmreg-no-version}
training: {epochs: 1, batch_size: 8, seed: 0}
"""

BEFORE = """
import os
import mmreg.registry.plugins

mmreg.registry.plugins.SLOW = 0.25  # instead of plugins that take seconds
os.environ["MMREG_DISABLE_PLUGINS"] = "report"  # to draw curves takes longer than to train
"""

Said = dict[str, CompletedProcess[str]]
"""What each command printed, and its exit code."""


@pytest.fixture(scope="module")
def folders(costly: Path, damaged_site: Path, installed: Callable[..., Path]) -> list[Path]:
    """The environments together; in the last two one distribution is there twice."""
    twice = [installed(one_encoder("mmreg-depth", version)) for version in ("2.0", "1.0")]
    return [costly, damaged_site, *twice]


@pytest.fixture(scope="module")
def said(folders: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Said:
    folder = tmp_path_factory.mktemp("training")
    splits = ["train"] * 16 + ["validation"] * 4 + ["test"] * 4
    rows = [f"word{number % 5},some{number % 3},{'ab'[number % 2]},{split}" for number, split in enumerate(splits)]
    (folder / "table.csv").write_text("\n".join(["first,second,label,split", *rows]) + "\n")
    (folder / "recipe.yaml").write_text(RECIPE)
    return dict(zip(COMMANDS, several(*COMMANDS.values(), path=folders, cwd=folder, before=BEFORE), strict=True))


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_works_and_says_each_failure_once(name: str, said: Said) -> None:
    done = said[name]
    assert done.returncode == (name == "doctor"), done.stderr  # doctor calls a failed plugin an error
    lines = [line for line in done.stderr.splitlines() if "is left out" in line]
    lost = [line.partition(" is left out (failed): ")[0] for line in lines]
    assert lost == ["mmreg: plugin same-again (mmreg-same 1.0)"]


def test_what_there_is_is_listed_and_shown(said: Said) -> None:
    listed = [(row["distribution"], row["version"], row["name"]) for row in json.loads(said["list"].stdout)]
    assert [row for row in listed if row[2] in ("image_cnn", "mmreg-depth", "chatty", "same")] == [
        ("mmreg-chatty", "1.0", "chatty"),
        ("mmreg", listed[0][1], "image_cnn"),
        ("mmreg-depth", "2.0", "mmreg-depth"),
        ("mmreg-same", "1.0", "same"),
    ]
    assert "Train the model that a recipe describes" in said["help"].stdout


def test_doctor_names_what_is_slow_failed_or_there_twice(said: Said, folders: list[Path]) -> None:
    checks: dict[str, list[dict[str, Any]]] = {}
    for check in json.loads(said["doctor"].stdout):
        checks.setdefault(check["check"], []).append(check)
    (slow,), (heavy,), (depth,), (again,) = (
        checks[f"plugin {name}"] for name in ("slow", "heavy", "depth", "same-again")
    )
    assert (slow["status"], heavy["status"], depth["status"], again["status"]) == (*["warning"] * 3, "error")
    assert slow["detail"].startswith("mmreg-slow 1.0: it is slow to load: every command waits 0.")
    assert heavy["detail"].startswith("mmreg-heavy 1.0: its light module imports torch: every command waits ")
    assert f"mmreg-depth 1.0 in {folders[3]}" in depth["detail"]
    assert "mmreg-same 1.0 failed: it declares the encoder 'same', as same (mmreg-same 1.0) does" in again["detail"]


def test_what_components_and_callbacks_print_leaves_stdout_clean(said: Said) -> None:
    assert "NOISE of a callback" in said["train"].stderr
    assert "NOISE of a callback" not in said["train"].stdout
    assert json.loads(said["evaluate"].stdout)["rows"] == 4
    assert len(list(csv.DictReader(io.StringIO(said["predict"].stdout.strip())))) == 24
    assert {row["name"] for row in json.loads(said["compare"].stdout)["variants"]} == {"concat", "sum"}
    for name in ("evaluate", "predict"):
        assert "NOISE of an encoder" in said[name].stderr
        assert "NOISE" not in said[name].stdout
