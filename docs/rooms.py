"""Draws architecture.svg, the rooms of the core in the order of the import contract: python docs/rooms.py"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

HERE = Path(__file__).parent
sys.path.append(str(HERE))  # the tests run this file from elsewhere

import drawing  # noqa: E402

PICTURE = HERE / "architecture.svg"
ROW, LEFT, WIDTH = 44, 48, 640


def floors() -> list[list[str]]:
    """The rooms of each floor, from the top, by the contract that `make lint` checks."""
    (layers,) = [each["layers"] for each in _contracts() if each["type"] == "layers"]
    return [rooms.split(" | ") for rooms in layers]


def closed() -> set[str]:
    """The rooms that no plugin may name."""
    forbidden = [each["forbidden_modules"] for each in _contracts() if "plugins name of the core" in each["name"]]
    return {room.removeprefix("mmreg.") for rooms in forbidden for room in rooms}


def _contracts() -> list[dict[str, list[str]]]:
    pyproject = (HERE.parent / "pyproject.toml").read_text(encoding="utf-8")
    contracts: list[dict[str, list[str]]] = tomllib.loads(pyproject)["tool"]["importlinter"]["contracts"]
    return contracts


def picture() -> str:
    """The floors as rows of boxes, the ground at the bottom, and beside them the direction of imports."""
    rows, hidden = floors(), closed()
    height = 2 * drawing.MARGIN + ROW * len(rows)
    parts = [drawing.arrow(24, drawing.MARGIN + 10, 24, height - drawing.MARGIN - 10)]
    for number, rooms in enumerate(rows):
        width = (WIDTH - LEFT - drawing.MARGIN + 8) / len(rooms)
        for place, room in enumerate(rooms):
            x, y = LEFT + place * width, drawing.MARGIN + ROW * (number + 0.5)
            style = "box" if room in hidden else "two"
            parts.append(drawing.rectangle(x, y - drawing.HEIGHT / 2, width - 8, drawing.HEIGHT, style))
            parts.append(drawing.text(x + (width - 8) / 2, y, room))
    told = "; ".join(", ".join(rooms) for rooms in rows)
    description = (
        f"From the top down, of which each imports from what is below it alone: {told}. Green: what plugins see."
    )
    return drawing.svg(WIDTH, height, "The rooms of the core", description, parts)


if __name__ == "__main__":
    PICTURE.write_text(picture(), encoding="utf-8")
