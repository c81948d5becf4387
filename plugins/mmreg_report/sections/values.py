"""Predicted numbers beside the true ones."""

from __future__ import annotations

import numpy as np

from mmreg.messages import cell
from mmreg.sections import Chart, Series
from mmreg_report.axes import limits
from mmreg_report.markup import Html, tag
from mmreg_report.subject import Subject, Target
from mmreg_report.svg import draw

MOST_POINTS = 400
"""Rows that are drawn; of more, others between are left out evenly."""
MOST_CHARTS = 6


def values(subject: Subject) -> list[Html]:
    """A chart for each number that is predicted."""
    charts = [chart for target in subject.each_target() for chart in value_charts(target)]
    return [tag("div", *map(draw, charts[:MOST_CHARTS]), class_="charts")] if charts else []


def value_charts(target: Target) -> list[Chart]:
    """The predicted over the true values, in the target's units."""
    if target.task.space != "values":
        return []
    keep = np.linspace(0, len(target.scores) - 1, min(len(target.scores), MOST_POINTS)).round().astype(int)
    told = target.task.predictions(target.scores[keep])
    true = target.task.predictions(target.targets[keep])  # encoded values are what scores are of
    charts = []
    for name in told:
        x, y = list(map(float, true[name])), list(map(float, told[name]))
        ends = limits([*x, *y])
        series = [Series("", ends, ends, "reference"), Series("rows", x, y, "points")]
        called = ": ".join(filter(None, (cell(target.name), name)))
        charts.append(Chart(f"Predicted over true values ({called})", "true", "predicted", series))
    return charts
