"""The page about compatibility has the versions of pyproject.toml, and the format that runs are written in."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from mmreg.run_files import facts

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "compatibility.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def rows(section: str) -> dict[str, list[str]]:
    """What stands in backquotes in the second column of a section's table, by the first."""
    text = PAGE.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    cells = re.findall(r"^\| (.+?) \| (.+?) \|", text, re.MULTILINE)
    return {name.strip("`"): re.findall(r"`([^`]+)`", cell) for name, cell in cells}


def test_python_and_the_libraries_of_torch_are_those_of_the_project() -> None:
    told = {name: cell[0] for name, cell in rows("Python, torch, systems").items() if cell}
    needed = [re.match(r"(torch(?:vision|audio|text)?)([=<>].*)", each) for each in PROJECT["dependencies"]]
    assert told == {"Python": PROJECT["requires-python"]} | {each[1]: each[2] for each in needed if each}


def test_every_extra_is_listed_with_its_packages() -> None:
    extras = {name: packages for name, packages in PROJECT["optional-dependencies"].items() if name != "dev"}
    assert {name: cell for name, cell in rows("Extras").items() if cell} == extras


def test_the_format_of_runs_is_that_of_the_code() -> None:
    assert f"says its `format` (now {facts.FORMAT})" in PAGE
