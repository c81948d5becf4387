"""A broken plugin is one line on stderr and a row of `mmreg plugins`, and stops nothing else."""

from __future__ import annotations

import json
import re
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
from faulty_plugins import BROKEN, broken_distributions
from wheels import mmreg


@pytest.mark.parametrize("name", BROKEN)
def test_its_record_says_why(name: str, plugins: dict[str, dict[str, Any]]) -> None:
    _, status, error = BROKEN[name]
    row = plugins[f"mmreg-{name}"]
    assert (row["entry_point"], row["version"], row["status"]) == (name, "1.0", status)
    assert re.search(error, row["error"])
    assert row["components"] == []
    assert row["error"].isprintable()


@pytest.mark.parametrize("name", BROKEN)
def test_it_is_said_in_one_line(name: str, listing: CompletedProcess[str], plugins: dict[str, dict[str, Any]]) -> None:
    (line,) = [line for line in listing.stderr.splitlines() if f"mmreg-{name} " in line]
    row = plugins[f"mmreg-{name}"]
    assert line == f"mmreg: plugin {name} (mmreg-{name} 1.0) is left out ({row['status']}): {row['error']}"


def test_the_bundled_plugins_and_their_neighbours_work(listing: CompletedProcess[str]) -> None:
    rows = json.loads(listing.stdout)
    assert {row["status"] for row in rows if row["distribution"] == "mmreg"} == {"ok"}
    assert [row["distribution"] for row in rows if row["status"] != "ok"] == sorted(f"mmreg-{name}" for name in BROKEN)


def test_listing_works(everything: Path) -> None:
    found = mmreg("list", "--format", "json", path=everything)
    assert found.returncode == 0
    names = {(row["distribution"], row["name"]) for row in json.loads(found.stdout)}
    assert names >= {("mmreg", "image_cnn"), ("mmreg-partial", "neighbour"), ("mmreg-one", "tiny")}
    assert len([line for line in found.stderr.splitlines() if "is left out" in line]) == len(BROKEN)


def test_help_works(help_page: CompletedProcess[str]) -> None:
    assert help_page.returncode == 0
    assert "Train the model that a recipe describes" in help_page.stdout
    assert len([line for line in help_page.stderr.splitlines() if "is left out" in line]) == len(BROKEN)


def test_what_a_failed_plugin_may_have_held_is_said(everything: Path) -> None:
    found = mmreg("info", "encoder/lidar", path=everything)
    assert found.returncode == 2
    assert "there is no encoder 'lidar'" in found.stderr
    assert "might have held it" in found.stderr
    assert "lacks-package (mmreg-lacks-package 1.0) failed: it needs the package" in found.stderr
    assert "other-api (mmreg-other-api 1.0) incompatible" in found.stderr


def test_only_the_named_distribution_is_blamed(everything: Path) -> None:
    found = mmreg("info", "encoder/mmreg_exits:lidar", path=everything)
    assert found.returncode == 2
    said = found.stderr.splitlines()[-1]
    assert "exits (mmreg-exits 1.0) failed: it cannot be imported: SystemExit: 3" in said
    assert "mmreg-panics" not in said


def test_strict_mode_raises(everything: Path) -> None:
    found = mmreg("list", path=everything, MMREG_STRICT="1")
    assert found.returncode == 1
    assert found.stdout == ""
    first = min(f"mmreg-{name}" for name in BROKEN)
    assert re.fullmatch(rf"mmreg: plugin \S+ \({first} 1.0\) is left out \(failed\): .+\n", found.stderr)


def test_plugins_are_left_out_by_the_command_line(everything: Path) -> None:
    names = [name if number % 2 else f"MMREG_{name}" for number, name in enumerate(BROKEN)]  # either name, any spelling
    options = [word for name in names for word in ("--no-plugin", name)]
    found = mmreg(*options, "plugins", "--format", "json", path=everything, MMREG_STRICT="1")
    assert (found.returncode, found.stderr.replace("NOISE\n", "")) == (0, "")
    rows = {row["distribution"]: row for row in json.loads(found.stdout)}
    assert {rows[f"mmreg-{name}"]["status"] for name in BROKEN} == {"blocked"}
    assert rows["mmreg-exits"]["error"] == "blocked by --no-plugin or MMREG_DISABLE_PLUGINS"


def test_help_leaves_them_out_too(everything: Path) -> None:
    options = [word for each in broken_distributions() for word in ("--no-plugin", each.name)]
    assert "is left out" not in mmreg("--help", *options, path=everything).stderr


def test_plugins_are_left_out_by_the_environment(everything: Path) -> None:
    found = mmreg("list", path=everything, MMREG_DISABLE_PLUGINS=" exits,mmreg_panics ,, same")
    assert "(mmreg-exits " not in found.stderr
    assert "(mmreg-panics " not in found.stderr
    assert "(mmreg-exits-in-hook " in found.stderr
    assert "mmreg-one" not in found.stdout
    assert "mmreg-two" not in found.stdout
    assert "mmreg-partial" in found.stdout


def test_only_chosen_plugins_are_loaded(everything: Path) -> None:
    found = mmreg("plugins", "--format", "json", path=everything, MMREG_PLUGINS="mmreg-partial")
    assert found.stderr == ""
    statuses = {row["distribution"]: row["status"] for row in json.loads(found.stdout)}
    assert [name for name, status in statuses.items() if status == "ok"] == ["mmreg", "mmreg-partial"]
    assert statuses["mmreg-exits"] == "blocked"


def test_only_bundled_plugins_are_loaded_where_none_is_chosen(everything: Path) -> None:
    found = mmreg("list", "--format", "json", path=everything, MMREG_PLUGINS="")
    assert found.stderr == ""
    assert {row["distribution"] for row in json.loads(found.stdout)} == {"mmreg"}


def test_a_component_whose_package_is_missing_names_it_and_what_to_install(everything: Path) -> None:
    found = mmreg("info", "lacking", path=everything)
    assert found.returncode == 2
    assert (
        "mmreg: encoder 'lacking' of mmreg-partial 1.0 needs the package 'a_package_that_is_nowhere', which is not "
        "installed; install it with: pip install mmreg-partial[all]" in found.stderr.splitlines()
    )


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("misspelt", "names a module that does not exist: 'mmreg_partial.encodr' (its target; is it misspelt?)"),
        ("exiting", "cannot be imported: SystemExit: 3"),
        (
            "no_such_class",
            "cannot be imported: mmreg_partial.plugin has no 'mmreg_component'; did you mean 'mmreg_components'?",
        ),
    ],
)
def test_a_component_that_cannot_be_imported_says_why(name: str, message: str, everything: Path) -> None:
    found = mmreg("info", name, "--format", "json", path=everything)
    assert (found.returncode, found.stdout) == (2, "")
    assert f"mmreg: encoder '{name}' of mmreg-partial 1.0 {message}" in found.stderr.splitlines()
