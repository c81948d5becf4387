"""Distributions whose metadata are incomplete, damaged or there twice."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from faulty_plugins import one_encoder
from wheels import mmreg


def rows(*folders: Path) -> tuple[dict[str, list[dict[str, Any]]], str]:
    """What `mmreg plugins` lists by entry point, and what it says on stderr."""
    found = mmreg("plugins", "--format", "json", path=folders)
    assert found.returncode == 0, found.stderr
    listed: dict[str, list[dict[str, Any]]] = {}
    for row in json.loads(found.stdout):
        if row["distribution"] != "mmreg":
            listed.setdefault(row["entry_point"], []).append(row)
    return listed, found.stderr


@pytest.fixture(scope="module")
def damaged(damaged_site: Path, unreadable_site: Path) -> tuple[dict[str, list[dict[str, Any]]], str]:
    return rows(damaged_site, unreadable_site)


@pytest.mark.parametrize(
    ("entry_point", "distribution", "version"),
    [
        ("no-version", "mmreg-no-version", "unknown"),
        ("no-metadata", "mmreg_no_metadata", "1.0"),
        ("garbage", "mmreg_garbage", "1.0"),
        ("no-name", "mmreg_no_name", "3.0"),
        ("bad-name", "mmreg_bad_name", "?[31m1?"),
        ("left", "mmreg-left", "1.0"),
    ],
)
def test_a_plugin_works_without_its_name_and_version(
    entry_point: str, distribution: str, version: str, damaged: tuple[dict[str, list[dict[str, Any]]], str]
) -> None:
    (row,) = damaged[0][entry_point]
    assert (row["distribution"], row["version"], row["status"]) == (distribution, version, "ok")
    assert row["components"] == [f"encoder/mmreg-{entry_point}"]


def test_unreadable_entry_points_are_a_failed_plugin(damaged: tuple[dict[str, list[dict[str, Any]]], str]) -> None:
    listed, said = damaged
    assert [(row["distribution"], row["status"]) for row in listed["?"]] == [
        ("mmreg-garbled-entries", "failed"),
        ("mmreg-odd-entries", "failed"),
    ]
    assert "its entry points cannot be read: UnicodeDecodeError" in listed["?"][0]["error"]
    assert [line.partition(" is left out")[0] for line in said.splitlines()] == [
        "mmreg: plugin ? (mmreg-garbled-entries 1.0)",
        "mmreg: plugin ? (mmreg-odd-entries 1.0)",
    ]


@pytest.mark.parametrize("arguments", [("list", "--format", "json"), ("--help",)], ids=["list", "help"])
def test_beside_them_commands_work_and_say_so(arguments: tuple[str, ...], unreadable_site: Path) -> None:
    found = mmreg(*arguments, path=unreadable_site)
    assert found.returncode == 0
    assert ("image_cnn" if arguments[0] == "list" else "Train the model that a recipe describes") in found.stdout
    assert found.stderr.count("is left out (failed): its entry points cannot be read") == 2


def test_they_can_be_left_out(unreadable_site: Path) -> None:
    found = mmreg("list", path=unreadable_site, MMREG_DISABLE_PLUGINS="mmreg-garbled-entries,mmreg-odd-entries")
    assert (found.returncode, found.stderr) == (0, "")


def test_a_distribution_that_is_there_twice_is_loaded_once_from_the_first_folder(
    installed: Callable[..., Path],
) -> None:
    old, new = installed(one_encoder("mmreg-depth", "1.0")), installed(one_encoder("mmreg-depth", "2.0"))
    for folders, versions in (((old, new), ["1.0", "2.0"]), ((new, old, new), ["2.0", "1.0"])):
        listed, said = rows(*folders)
        assert said == ""
        assert [row["version"] for row in listed["depth"]] == versions
        assert [row["status"] for row in listed["depth"]] == ["ok", "duplicate"]
        assert [row["components"] for row in listed["depth"]] == [["encoder/mmreg-depth"], []]
        assert listed["depth"][1]["error"] == (
            f"mmreg-depth {versions[0]} in {folders[0]}/mmreg_depth-{versions[0]}.dist-info comes first"
        )


def test_an_editable_install_over_a_wheel_is_loaded_once(installed: Callable[..., Path], tmp_path: Path) -> None:
    distribution = one_encoder("mmreg-depth", "1.0")
    wheel = installed(distribution)
    source = tmp_path / "source"
    shutil.copytree(wheel / "mmreg_depth", source / "mmreg_depth")
    egg = source / "Mmreg_Depth.egg-info"  # what setuptools leaves in a source folder, in its own spelling
    egg.mkdir()
    (egg / "PKG-INFO").write_text(distribution.metadata().replace("mmreg-depth", "Mmreg_Depth"))
    (egg / "entry_points.txt").write_text(distribution.entry_points_text())
    for folders, names in (
        ((source, wheel), ["Mmreg_Depth", "mmreg-depth"]),
        ((wheel, source), ["mmreg-depth", "Mmreg_Depth"]),
    ):
        listed, said = rows(*folders)
        assert said == ""
        assert [(row["distribution"], row["status"]) for row in listed["depth"]] == [
            (names[0], "ok"),
            (names[1], "duplicate"),
        ]


def test_side_by_side_the_wheel_of_the_latest_version_comes_first(installed: Callable[..., Path]) -> None:
    folder = installed(one_encoder("mmreg-depth", "1.9"))
    info = folder / "mmreg_depth-1.9.dist-info"
    for version, ending in (("1.10", "dist-info"), ("2.0", "egg-info")):
        copy = folder / f"mmreg_depth-{version}.{ending}"
        shutil.copytree(info, copy)
        metadata = (info / "METADATA").read_text().replace("1.9", version)
        (copy / ("METADATA" if ending == "dist-info" else "PKG-INFO")).write_text(metadata)
    shutil.copy(folder / "mmreg_depth-2.0.egg-info/PKG-INFO", folder / "mmreg_depth-2.0.egg-info/METADATA")
    listed, _ = rows(folder)
    assert [(row["version"], row["status"]) for row in listed["depth"]] == [
        ("1.10", "ok"),
        ("1.9", "duplicate"),
        ("2.0", "duplicate"),
    ]
