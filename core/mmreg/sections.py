"""What a section of a report is made of, as plain data: whoever shows it draws its figures and escapes its texts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class Series:
    """One curve, or one cloud of points.

    Attributes:
        name: what the legend calls it; empty for one that needs no name, such as a diagonal.
        x: along the first axis.
        y: as many; None or what is not finite leaves a gap.
        kind: a line, points, or a line that is only there to compare with.
        labels: what each point is called when it is pointed at; empty for its numbers.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float | None]
    kind: Literal["line", "points", "reference"] = "line"
    labels: Sequence[str] = ()

    def finite(self) -> list[list[tuple[float, float]]]:
        """The points that can be drawn, a list for each stretch without a gap."""
        stretches: list[list[tuple[float, float]]] = [[]]
        for x, y in zip(self.x, self.y, strict=True):
            if y is not None and math.isfinite(x) and math.isfinite(y):
                stretches[-1].append((x, y))
            elif stretches[-1]:
                stretches.append([])
        return [stretch for stretch in stretches if stretch]

    def labelled(self) -> list[str]:
        """The labels of these points, one after the other; none where points have none."""
        if not self.labels:
            return []
        points = zip(self.x, self.y, self.labels, strict=True)
        return [label for x, y, label in points if y is not None and math.isfinite(x) and math.isfinite(y)]


@dataclass(frozen=True)
class Chart:
    """Curves or clouds over one pair of axes.

    Attributes:
        title: what it shows.
        x: what the first axis is.
        y: what the second is.
        series: the curves.
        unit: whether both axes go from 0 to 1.
    """

    title: str
    x: str
    y: str
    series: Sequence[Series]
    unit: bool = False


@dataclass(frozen=True)
class Bars:
    """Named numbers.

    Attributes:
        title: what it shows.
        axis: what the numbers are.
        values: by name.
    """

    title: str
    axis: str
    values: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """Rows by their columns' names.

    Attributes:
        title: what it shows.
        rows: values are texts, numbers, or None; a row may lack some columns.
        bars: the column whose numbers from 0 to 1 are also drawn.
        folded: whether it is shown only when a reader asks for it.
    """

    title: str
    rows: Sequence[Mapping[str, Any]]
    bars: str = ""
    folded: bool = False


Figure = Chart | Bars
Block = str | Table | Figure
"""A paragraph, a table or a figure."""


@dataclass(frozen=True)
class Reported:
    """What a report tells of, as a plugin's section is given it.

    Attributes:
        run: the `mmreg.Run`.
        known: the rows that its figures are of, as `run.known_rows` gives them, which `run.prepare` takes as well; None
            where the table is not at hand or nothing is to be computed.
        shown: the places of those among `known.rows` that the report shows one by one.
    """

    run: Any
    known: Any = None
    shown: Sequence[int] = ()
