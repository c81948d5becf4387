"""`--help`: quick, as nothing heavy is imported for it, and readable on a terminal of 80 columns."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

LIGHT = """
import contextlib, io, json, sys
from mmreg.cli import main
from mmreg.cli.app import build_app
import typer
app = typer.main.get_command(build_app())
names = app.list_commands(typer.Context(app))
pages = {}
pages_of = [["--help"], *([name, "--help"] for name in names), ["cache", "prune", "--help"]]
for arguments in [*pages_of, ["list"], ["plugins"], ["cache", "list"], ["--version"]]:
    sys.argv = ["mmreg", *arguments]
    out = io.StringIO()
    code = 0
    with contextlib.redirect_stdout(out):
        try:
            main()
        except SystemExit as leaving:
            code = leaving.code or 0
    heavy = sorted({"torch", "numpy", "pyarrow", "torchtext"} & set(sys.modules))
    pages[" ".join(arguments)] = {"code": code, "out": out.getvalue(), "heavy": heavy}
print(json.dumps(pages))
"""

COMMANDS = (
    *("list", "info", "plugins", "init", "validate", "train", "evaluate", "predict", "fuse", "compare", "robustness"),
    *("schema", "check", "cache", "doctor", "new-plugin", "demo", "runs"),
)


@pytest.fixture(scope="module")
def pages() -> dict[str, Any]:
    """What each command printed, and what was imported by then."""
    done = subprocess.run(
        [sys.executable, "-c", LIGHT],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "COLUMNS": "80", "TERMINAL_WIDTH": "80"},
    )
    assert done.stderr == ""
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_nothing_heavy_is_imported_by_any_help_page_list_or_plugins(pages: dict[str, Any]) -> None:
    assert {name: page["heavy"] for name, page in pages.items() if "torch" in page["heavy"]} == {}
    assert {page["code"] for page in pages.values()} == {0}


def test_every_command_is_there_with_a_sentence(pages: dict[str, Any]) -> None:
    for name in COMMANDS:
        assert f"{name} --help" in pages
        assert f"│ {name} " in pages["--help"]["out"]


def test_help_fits_into_80_columns(pages: dict[str, Any]) -> None:
    for name, page in pages.items():
        if name.endswith("--help"):
            too_long = [line for line in page["out"].splitlines() if len(line.rstrip()) > 80]
            assert not too_long, f"{name}: {too_long}"
            assert "…" not in page["out"], f"{name}: a word is cut off"
            assert "Usage: mmreg" in page["out"]


def test_arguments_are_named_in_capitals(pages: dict[str, Any]) -> None:
    for name, named in {
        "train": "RECIPE|TABLE",
        "info": "NAME",
        "list": "KIND",
        "init": "TABLE",
        "evaluate": "TABLE",
        "predict": "TABLE",
        "validate": "RECIPE",
    }.items():
        assert named in pages[f"{name} --help"]["out"]


def test_the_version_is_the_distributions(pages: dict[str, Any]) -> None:
    from importlib.metadata import version

    assert pages["--version"]["out"] == f"mmreg {version('mmreg')}\n"
