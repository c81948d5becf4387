"""Draws curves as SVG that takes the page's colours, so that one picture is right in the light and in the dark."""

from __future__ import annotations

from collections.abc import Iterator

from mmreg.messages import cell
from mmreg.sections import Chart, Series
from mmreg_report.axes import limits, of_counts, ticks
from mmreg_report.markup import Html, joined, tag

WIDTH, HEIGHT = 460, 290
LEFT, RIGHT, TOP, BOTTOM = 58, 10, 10, 44
COLOURS = 6
"""Series that have a colour of their own; later ones have those again, with other dashes."""
MOST_MARKS = 60
"""Points of a line up to which each has a mark that tells its numbers when pointed at."""


def draw(chart: Chart) -> Html:
    """A figure with a caption and a legend."""
    points = [point for series in chart.series for stretch in series.finite() for point in stretch]
    if not points:
        return tag("p", f"{chart.title}: there is nothing to draw.")
    if chart.unit:
        x_limits = y_limits = (0.0, 1.0)
    else:
        x_limits, y_limits = limits([x for x, _ in points]), limits([y for _, y in points])
    frame = _Frame(x_limits, y_limits)
    named = [series for series in chart.series if series.kind != "reference"]
    drawn = joined(_series(frame, series, number) for number, series in _numbered(chart))
    picture = tag(
        "svg", tag("title", chart.title), frame.axes(chart), drawn, viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img",
        aria_label=f"{chart.title}: {chart.y} over {chart.x}",
    )  # fmt: skip
    entries = (
        tag("li", _swatch(number, series.kind), series.name) for number, series in enumerate(named) if series.name
    )
    return tag("figure", picture, tag("figcaption", chart.title), tag("ul", *entries, class_="legend"), class_="chart")


def _numbered(chart: Chart) -> Iterator[tuple[int, Series]]:
    """Each series with its number among those that have a colour; -1 for what is there to compare with."""
    number = 0
    for series in chart.series:
        yield (-1 if series.kind == "reference" else number), series
        number += series.kind != "reference"


def _look(number: int) -> str:
    return "reference" if number < 0 else f"s{number % COLOURS} d{number // COLOURS % 3}"


def _mark(number: int, x: float, y: float, told: str) -> Html:
    """A point: of later series, which have the first ones' colours again, a square or a diamond."""
    name = tag("title", told) if told else ""
    shape = max(number, 0) // COLOURS % 3
    if shape == 0:
        return tag("circle", name, r="2.6", cx=f"{x:.1f}", cy=f"{y:.1f}")
    turned = f"rotate(45 {x:.1f} {y:.1f})" if shape == 2 else None
    return tag("rect", name, x=f"{x - 2.4:.1f}", y=f"{y - 2.4:.1f}", width="4.8", height="4.8", transform=turned)


def _swatch(number: int, kind: str) -> Html:
    line = tag("line", x1=0, y1=6, x2=26, y2=6, class_=_look(number))
    if kind == "points":
        line = tag("g", _mark(number, 13, 6, ""), class_=_look(number))
    return tag("svg", line, viewBox="0 0 26 12", class_="swatch", aria_hidden="true")


def _series(frame: _Frame, series: Series, number: int) -> Html:
    stretches = series.finite()
    count = sum(map(len, stretches))
    marks = []
    labels = iter(series.labelled())
    if series.kind == "points" or (series.kind == "line" and count <= MOST_MARKS):
        for stretch in stretches:
            for x, y in stretch:
                told = next(labels, f"{series.name}: {cell(float(y))} at {cell(float(x))}")
                marks.append(_mark(number if series.kind == "points" else 0, frame.x(x), frame.y(y), told))
    if series.kind == "points":
        return tag("g", *marks, class_=f"{_look(number)} cloud")
    lines = []
    for stretch in stretches:
        path = " ".join(f"{frame.x(x):.1f},{frame.y(y):.1f}" for x, y in stretch)
        lines.append(tag("polyline", points=path))
    return tag("g", *lines, *marks, class_=_look(number))


class _Frame:
    """Where numbers are in the picture."""

    def __init__(self, x: tuple[float, float], y: tuple[float, float]) -> None:
        self._x, self._y = x, y

    def x(self, value: float) -> float:
        low, high = self._x
        return LEFT + (value - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        low, high = self._y
        return HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - TOP - BOTTOM)

    def axes(self, chart: Chart) -> Html:
        """Lines at round numbers, these numbers, and what the axes are."""
        parts = []
        for value in ticks(*self._y):
            at = f"{self.y(value):.1f}"
            parts.append(tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=at, y2=at, class_="grid"))
            parts.append(tag("text", f"{value:g}", x=LEFT - 6, y=f"{self.y(value) + 4:.1f}", text_anchor="end"))
        for value in ticks(*self._x, whole=of_counts(chart)):
            at = f"{self.x(value):.1f}"
            parts.append(tag("line", x1=at, x2=at, y1=TOP, y2=HEIGHT - BOTTOM, class_="grid"))
            parts.append(tag("text", f"{value:g}", x=at, y=HEIGHT - BOTTOM + 16, text_anchor="middle"))
        middle = (TOP + HEIGHT - BOTTOM) / 2
        parts.append(tag("text", chart.x, x=(LEFT + WIDTH - RIGHT) / 2, y=HEIGHT - 8, text_anchor="middle"))
        turned = {"transform": f"rotate(-90 12 {middle})", "text_anchor": "middle"}
        parts.append(tag("text", chart.y, x=12, y=middle, **turned))
        return tag("g", *parts, class_="axes")
