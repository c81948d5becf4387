"""A bundled plugin is its folder and its entry point: packing and the import contracts follow from these."""

from __future__ import annotations

import runpy
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PYPROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")

TWO_PLUGINS = """
[project.entry-points.mmreg]
one = "mmreg_one.plugin"
two = "mmreg_two.plugin:part"

[tool.importlinter]
root_packages = ["mmreg", "mmreg_*"]
"""


@pytest.fixture(scope="module")
def contracts() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / ".ci" / "contracts.py"))


def test_every_folder_of_plugins_has_an_entry_point_and_every_entry_point_a_folder(contracts):
    assert not contracts["mismatch"](contracts["declared"](PYPROJECT), ROOT / "plugins")


def test_a_folder_without_entry_point_and_an_entry_point_without_folder_are_told(contracts, tmp_path):
    for name in ("mmreg_one", *contracts["IMPORTED"], "mmreg_three", "__pycache__"):
        (tmp_path / name).mkdir()
    told = contracts["mismatch"](contracts["declared"](TWO_PLUGINS), tmp_path)
    assert told.splitlines() == [
        "plugins/mmreg_three has no entry point in pyproject.toml",
        "the entry point of mmreg_two leads nowhere",
    ]


def test_contracts_are_about_the_plugins_that_have_entry_points(contracts):
    filled = tomllib.loads(contracts["filled"](TWO_PLUGINS))
    packages = {"mmreg_one", "mmreg_two"} | contracts["IMPORTED"]
    assert filled["tool"]["importlinter"]["root_packages"] == ["mmreg", *sorted(packages)]


def test_a_plugin_is_named_in_one_place_alone(contracts):
    for package in contracts["declared"](PYPROJECT) - contracts["IMPORTED"]:
        assert PYPROJECT.count(package) == 1
