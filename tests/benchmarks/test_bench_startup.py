"""How long commands take that do little, beside importing the libraries that they need."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from harness import compare

FIRST_STEP = """
import os
from pathlib import Path

import mmreg

mmreg_api = 1


class FirstStep(mmreg.Callback):
    def on_step(self, step):
        Path("first_step").touch()
        os._exit(0)


@mmreg.hookimpl
def mmreg_callbacks():
    return [FirstStep()]
"""
"""A plugin that ends the process when the first step is done."""
RECIPE = """
table: table.csv
target: {column: label}
modalities:
  text: {}
training: {epochs: 1}
"""
IMPORTS = "import typer, pluggy, pydantic"
TORCH = "import torch, torchvision"


def run(folder: Path, *arguments: str) -> None:
    """Run Python in a folder, whose packages come first."""
    path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path}
    subprocess.run([sys.executable, *arguments], cwd=folder, env=environment, check=True, capture_output=True)


def command(folder: Path, *arguments: str) -> Callable[[], None]:
    def call() -> None:
        run(folder, "-m", "mmreg", *arguments)

    return call


def imports(folder: Path, statement: str) -> Callable[[], None]:
    def call() -> None:
        run(folder, "-c", statement)

    return call


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A tiny table of texts, with a recipe."""
    lines = [f"some words and number {number % 5},{'ab'[number % 2]}" for number in range(40)]
    (tmp_path / "table.csv").write_text("\n".join(["text,label", *lines]) + "\n")
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    return tmp_path


@pytest.mark.bench
@pytest.mark.parametrize(
    ("arguments", "at_most"),
    # Help is drawn by rich, whose import is not among the three.
    [(["list"], 2.5), (["plugins"], 2.5), (["--help"], None), (["train", "--help"], None)],
    ids=["list", "plugins", "help", "train help"],
)
def test_listing_takes_little_more_than_its_imports(folder: Path, arguments: list[str], at_most: float | None) -> None:
    what = f"mmreg {' '.join(arguments)}"
    compare(what, IMPORTS, command(folder, *arguments), imports(folder, IMPORTS), rounds=5, at_most=at_most)


@pytest.mark.bench
@pytest.mark.parametrize(
    "arguments",
    [["init", "table.csv", "--out", "own.yaml", "--overwrite"], ["validate", "recipe.yaml"]],
    ids=["init", "validate"],
)
def test_a_small_table_takes_little_more_than_importing_torch(folder: Path, arguments: list[str]) -> None:
    what = f"mmreg {arguments[0]}, small table"
    compare(what, TORCH, command(folder, *arguments), imports(folder, TORCH), rounds=5, at_most=1.3)


@pytest.mark.bench
def test_the_first_step_comes_soon(folder: Path) -> None:
    (folder / "first_step.py").write_text(FIRST_STEP)
    info = folder / "first_step-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: first-step\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[mmreg]\nfirst_step = first_step\n")

    def first_step() -> None:
        run(folder, "-m", "mmreg", "train", "recipe.yaml", "--out", "run", "--overwrite")
        (folder / "first_step").unlink()

    compare("mmreg train, to the first step", TORCH, first_step, imports(folder, TORCH), rounds=5, at_most=2.0)
