"""A run's facts as Markdown: figures by split and part, the learning curve, and the components with their versions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from mmreg.console import by_target, figure_rows
from mmreg.files import markdown_table
from mmreg.messages import cell
from mmreg_report.reading import Facts
from mmreg_report.tables import SPLITS, classes, rows_of_parts, summary, trainings

BARS = "▁▂▃▄▅▆▇█"
CURVE_WIDTH = 40
"""Bars of a learning curve at most."""
LOSSES = ("train_loss", "validation_loss")
"""Columns of metrics.csv with the losses of the whole."""
MOST_EPOCHS = 12
"""Rows of the learning curve's table at most; epochs between are left out evenly."""


def render(facts: Facts) -> str:
    """The whole report."""
    curve = [_curve(facts)] if facts.history else []
    sections = [
        _summary(facts),
        *_notes(facts),
        _figures(facts),
        *(f"## {title}\n\n{markdown_table(rows)}" for title, rows in [*trainings(facts), *classes(facts)]),
        *curve,
        *_statistics(facts),
        _components(facts),
    ]
    return "\n\n".join([f"# Run {facts.name}", *sections]) + "\n"


def shown_columns(facts: Facts) -> list[str]:
    """The columns of metrics.csv whose curves are shown: the losses and the metric that chose the weights."""
    metric = (facts.report.get("best") or facts.report.get("soup", {})).get("metric")
    names = dict.fromkeys([*LOSSES, *([f"validation_{metric}"] if metric else [])])
    present = {name for row in facts.history for name, value in row.items() if value is not None}
    return [name for name in names if name in present]


def sparkline(values: Sequence[float | None]) -> str:
    """Values as a line of bars, the lowest one the least; what is not finite leaves a gap."""
    step = max(1.0, len(values) / CURVE_WIDTH)
    chosen = [values[int(at * step)] for at in range(math.ceil(len(values) / step))]
    finite = [value for value in chosen if value is not None and math.isfinite(value)]
    if not finite:
        return ""
    low, span = min(finite), max(finite) - min(finite)
    top = len(BARS) - 1
    return "".join(
        BARS[round((value - low) / span * top) if span else 0] if value is not None and math.isfinite(value) else " "
        for value in chosen
    )


def _summary(facts: Facts) -> str:
    heading = "Combined of these runs:\n\n" if "fused" in facts.report else ""
    return heading + "\n".join(f"- {line}" for line in summary(facts))


def _notes(facts: Facts) -> list[str]:
    """What a person should know, if there is anything."""
    notes = facts.report.get("notes")
    return ["## Notes\n\n" + "\n".join(f"- {cell(note)}" for note in notes)] if notes else []


def _figures(facts: Facts) -> str:
    """A row for each split and part of the model; of several targets, a table for each."""
    tables: dict[str, list[dict[str, Any]]] = {}
    for split, called in SPLITS.items():
        if split in facts.report:
            for target, figures in by_target(facts.report[split]).items():
                tables.setdefault(target, []).extend({"split": called, **row} for row in figure_rows(figures))
    if not tables:
        return "## Figures\n\nThere were neither validation nor test rows to measure on."
    titled = [f"### {cell(target)}\n\n" * bool(target) + markdown_table(rows) for target, rows in tables.items()]
    return "\n\n".join(filter(None, ["## Figures", *titled, rows_of_parts(facts)]))


def _curve(facts: Facts) -> str:
    columns, history = shown_columns(facts), facts.history
    lines = []
    for name in columns:
        curve = [row.get(name) for row in history]
        known = [figure for figure in curve if figure is not None]
        lines.append(f"{name:<24} {sparkline(curve)}  {cell(known[0])} -> {cell(known[-1])}")
    step = max(1, math.ceil(len(history) / MOST_EPOCHS))
    best = facts.report.get("best", {}).get("epoch")
    chosen = [row for at, row in enumerate(history) if at % step == 0 or at == len(history) - 1 or row["epoch"] == best]
    rows = [{"epoch": int(row["epoch"] or 0), **{name: row.get(name) for name in columns}} for row in chosen]
    return "## Learning curve\n\n```text\n" + "\n".join(lines) + "\n```\n\n" + markdown_table(rows)


def _statistics(facts: Facts) -> list[str]:
    """What was measured of each component in the last step that was looked into, and its gradients' course."""
    if not facts.statistics:
        return []
    last = facts.statistics[-1]["step"]
    rows = []
    for row in facts.statistics:
        if row["step"] == last:
            name = row["component"]
            norms = [_number(each["gradient_norm"]) for each in facts.statistics if each["component"] == name]
            figures = {key: _number(text) for key, text in row.items() if key not in ("step", "component")}
            rows.append({"component": name, "gradients so far": sparkline(norms), **figures})
    return [f"## Statistics of step {last}\n\n" + markdown_table(rows)]


def _number(text: str) -> float | None:
    return float(text) if text else None


def _components(facts: Facts) -> str:
    rows: list[dict[str, Any]] = [
        {"role": role, "component": each["name"], "distribution": each["distribution"], "version": each["version"]}
        for role, each in facts.components["components"].items()
    ]
    return f"## Components\n\n{markdown_table(rows)}\n\nWritten by mmreg {facts.components['mmreg']}."
