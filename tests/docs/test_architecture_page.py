"""The page about the architecture lists the rooms of the core, in the order that the layers contract keeps."""

from __future__ import annotations

import re
import runpy
import tomllib
import xml.etree.ElementTree as ET
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def listed() -> list[str]:
    """The rooms and modules of the core in the order of the page."""
    tree = PAGE.partition("\ncore/mmreg/")[2].partition("\nplugins/")[0]
    return [
        name for line in re.findall(r"^  (\S.*?)  ", tree, re.MULTILINE) for name in line.replace("/", "").split(", ")
    ]


def test_every_room_is_listed() -> None:
    there = {path.stem for path in (ROOT / "core" / "mmreg").iterdir() if (path / "__init__.py").is_file()}
    there |= {path.stem for path in (ROOT / "core" / "mmreg").glob("[!_]*.py")}
    assert set(listed()) == there
    assert len(listed()) == len(there)


def test_the_rooms_are_in_the_order_of_the_layers_contract() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (layers,) = [each["layers"] for each in contracts if each["type"] == "layers"]
    floor = {room: number for number, rooms in enumerate(reversed(layers)) for room in rooms.split(" | ")}
    assert [floor[room] for room in listed()] == sorted(floor.values())


def test_the_files_that_it_names_are_there() -> None:
    for name in set(re.findall(r"\b[a-z_]+\.py\b", PAGE)):
        assert list(ROOT.glob(f"*/*/{name}")) or list(ROOT.glob(f"core/mmreg/*/{name}")), name


ROOMS = runpy.run_path(str(ROOT / "docs" / "rooms.py"))


def test_the_picture_is_that_of_the_contract() -> None:
    text = (ROOT / "docs" / "architecture.svg").read_text(encoding="utf-8")
    assert text == ROOMS["picture"](), "run: python docs/rooms.py"
    assert "](architecture.svg)" in PAGE


def test_the_picture_has_every_room_above_those_that_it_imports_from() -> None:
    root = ET.fromstring(ROOMS["picture"]())
    labels = root.iter("{http://www.w3.org/2000/svg}text")
    heights = {label.text: float(label.attrib["y"]) for label in labels}
    assert set(heights) == set(listed())
    from_the_ground = [heights[room] for room in listed()]
    assert from_the_ground == sorted(from_the_ground, reverse=True)


def test_what_plugins_may_name_is_green_in_the_picture() -> None:
    root = ET.fromstring(ROOMS["picture"]())
    boxes = [each.attrib["class"] for each in root.iter("{http://www.w3.org/2000/svg}rect")][1:]
    rooms = [each.text for each in root.iter("{http://www.w3.org/2000/svg}text")]
    green = {room for room, style in zip(rooms, boxes, strict=True) if style == "two"}
    assert green >= {"errors", "layers", "messages", "console", "registry", "testing", "files", "regions"}
    assert not green & {"cli", "training", "runs", "data", "contract", "importing"}
