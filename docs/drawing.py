"""Draws boxes in columns and arrows between them as SVG, for dark and light pages, with a title and a description."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

STYLE = """
.page { fill: #ffffff } .box { fill: #eef1f6; stroke: #5a6b82 } .operation { fill: #fff3d6; stroke: #8a6100 }
.arrow { stroke: #5a6b82; fill: none } .tip { fill: #5a6b82 } text { fill: #16202e; font: 14px system-ui, sans-serif }
.one { fill: #cfe3ff; stroke: #1f5fae } .two { fill: #d5f0d8; stroke: #2a7238 }
.three { fill: #f6d9ea; stroke: #9a2f6c }
@media (prefers-color-scheme: dark) {
.page { fill: #171c24 } .box { fill: #273140; stroke: #93a4bb } .operation { fill: #43360f; stroke: #e0b344 }
.arrow { stroke: #93a4bb } .tip { fill: #93a4bb } text { fill: #e8edf4 }
.one { fill: #17385f; stroke: #7db4f5 } .two { fill: #1c4326; stroke: #79c98a }
.three { fill: #4d1f3a; stroke: #e58dbd }
}"""
"""A picture has a ground of its own, as an image does not know whether the page around it is dark."""

COLOURS = ("one", "two", "three")
ROW, GAP, MARGIN, HEIGHT = 48, 56, 12, 30


@dataclass
class Box:
    """A labelled box of a column, with its place."""

    label: str
    style: str
    x: float
    y: float
    width: float


def text(x: float, y: float, label: str) -> str:
    """A label whose middle is at a point."""
    return f'<text x="{x:g}" y="{y + 5:g}" text-anchor="middle">{escape(label)}</text>'


def rectangle(x: float, y: float, width: float, height: float, style: str) -> str:
    """A box with round corners."""
    return f'<rect class="{style}" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="6"/>'


def arrow(x1: float, y1: float, x2: float, y2: float) -> str:
    """A line with a tip at its end, which points to the right, or down where the line is upright."""
    across = x2 > x1
    end = (x2 - 7, y2) if across else (x2, y2 - 7)
    corners = [(-8, -4), (-8, 4)] if across else [(-4, -8), (4, -8)]
    tip = " ".join(f"{x2 + dx:g},{y2 + dy:g}" for dx, dy in [(0, 0), *corners])
    line = f'<line class="arrow" x1="{x1:g}" y1="{y1:g}" x2="{end[0]:g}" y2="{end[1]:g}"/>'
    return f'{line}<polygon class="tip" points="{tip}"/>'


def svg(width: float, height: float, title: str, description: str, parts: Sequence[str]) -> str:
    """A whole picture."""
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" role="img"'
    ground = f'<rect class="page" width="{width:g}" height="{height:g}" rx="8"/>'
    named = f'<title id="t">{escape(title)}</title>\n<desc id="d">{escape(description)}</desc>'
    start = f'{head} width="{width:g}" height="{height:g}" aria-labelledby="t d">'
    return "\n".join([start, named, f"<style>{STYLE}\n</style>", ground, *parts, "</svg>", ""])


def labels(column: Any) -> list[str]:
    """What the boxes of a column say."""
    if isinstance(column, dict):
        (column,) = column.values()
    return [str(each) for each in column] if isinstance(column, (list, dict)) else [str(column)]


def sources(column: Any, before: int) -> list[list[int]]:
    """From which of so many boxes before it each box of a column is reached."""
    count = len(labels(column))
    if isinstance(column, dict) and "links" in column:
        return list(column["links"].values())
    if isinstance(column, dict) or count != before:
        return [list(range(before))] * count
    return [[number] for number in range(count)]


def described(inputs: list[str], columns: Sequence[Any], output: str) -> str:
    """What a picture shows, in words."""
    steps = [f"{', '.join(inputs)} come in"]
    for before, column in zip([inputs, *columns], columns, strict=False):
        boxes, left = labels(column), labels(before)
        reached = sources(column, len(left))
        if isinstance(column, dict) and "links" in column:
            told = [f"{box} of {' and '.join(left[at] for at in ats)}" for box, ats in zip(boxes, reached, strict=True)]
            steps.append(", ".join(told))
        else:
            steps.append(f"{', '.join(boxes)}, {'each of its own' if len(reached[0]) < len(left) else 'of all before'}")
    return "; then ".join([*steps, f"{output} comes out"]) + "."


def diagram(title: str, inputs: list[str], columns: Sequence[Any], output: str, kind: str) -> str:
    """Boxes in columns from the inputs to the output; equally many boxes are joined one by one, others all to all.

    Args:
        title: of the picture.
        inputs: a label a modality.
        columns: each a label, or a list of them, or {cross: list}, which all before lead to, {parallel: list}, the same
            for boxes that are no modality's, or {links: {label: numbers of those before it}}.
        output: a label.
        kind: "vector", "tokens" or "prediction": what the inputs are drawn as.
    """
    placed: list[list[Box]] = []
    x, height = float(MARGIN), MARGIN * 2 + ROW * len(inputs)
    for number, column in enumerate([inputs, *columns, output]):
        names = labels(column)
        ends = number in (0, len(columns) + 1)
        width = max(40.0 if ends else 34.0, max(map(len, names)) * 8.2 + 16)
        own = len(names) == len(inputs) and "parallel" not in column and "links" not in column
        step = (height - 2 * MARGIN) / len(names)
        placed.append(
            [
                Box(
                    label,
                    COLOURS[at % 3] if own else "operation" if not ends else "box",
                    x,
                    MARGIN + step * (at + 0.5),
                    width,
                )
                for at, label in enumerate(names)
            ]
        )
        x += width + GAP
    parts = []
    for column, left, right in zip([*columns, output], placed, placed[1:], strict=False):
        for target, reached in zip(right, sources(column, len(left)), strict=True):
            parts += [arrow(left[at].x + left[at].width, left[at].y, target.x, target.y) for at in reached]
    for box in (box for column in placed for box in column):
        parts.append(rectangle(box.x, box.y - HEIGHT / 2, box.width, HEIGHT, box.style))
        parts.append(text(box.x + box.width / 2, box.y, box.label))
    for box in placed[0]:
        parts.extend(marks(kind, box))
    return svg(x - GAP + MARGIN, height, title, described(inputs, columns, output), parts)


def marks(kind: str, box: Box) -> list[str]:
    """Below an input, what it is: a bar for a vector, squares for tokens, columns for a prediction."""
    top, style = box.y + HEIGHT / 2, f'class="{box.style}"'
    if kind == "vector":
        return [f'<rect {style} x="{box.x:g}" y="{top + 2:g}" width="{box.width:g}" height="4"/>']
    if kind == "tokens":
        places = [box.x + at * 10 for at in range(int(box.width // 10))]
        return [f'<rect {style} x="{place:g}" y="{top + 2:g}" width="6" height="6"/>' for place in places]
    heights = [3, 7, 2, 4]
    return [
        f'<rect {style} x="{box.x + 4 + at * 9:g}" y="{top + 9 - high:g}" width="6" height="{high}"/>'
        for at, high in enumerate(heights)
    ]
