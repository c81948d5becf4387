"""How the training went: losses and the metric over the epochs, of the whole and of each part; time and memory."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mmreg.messages import byte_size, plural
from mmreg.sections import Chart, Series
from mmreg_report.markdown import LOSSES, shown_columns
from mmreg_report.markup import Html, folded, table, tag
from mmreg_report.reading import Facts
from mmreg_report.subject import Subject
from mmreg_report.svg import draw

MOST_TOGETHER = 4
"""Losses that share a picture, those of training and of validation."""
FLAT = 0.1
"""Of a common axis, the part that curves must take up to be told from a flat line."""


def curves(subject: Subject) -> list[Html]:
    """Curves, the same as a table, and how long it took."""
    facts = subject.facts
    if not facts.history:
        return []
    columns = ["epoch", *_columns(facts, "loss"), *_columns(facts, _metric(facts))]
    rows = [{name: row.get(name) for name in columns} for row in facts.history]
    rows = [{**row, "epoch": int(row["epoch"] or 0)} for row in rows]
    drawn = tag("div", *map(draw, curve_charts(facts)), class_="charts")
    return [drawn, folded("The same as a table", table(rows, "Learning curves")), *_time(facts)]


def curve_charts(facts: Facts) -> list[Chart]:
    """The losses and, if a metric chose the weights, that metric."""
    metric = _metric(facts)
    charts = []
    for name, columns in (
        *(("loss", own) for own in loss_panels(facts, _columns(facts, "loss"))),
        (metric, _columns(facts, metric)),
    ):
        epochs = [float(row["epoch"] or 0) for row in facts.history]
        series = [
            Series(_named(column, name), epochs, [row.get(column) for row in facts.history]) for column in columns
        ]
        if series:
            charts.append(Chart(f"Learning curves: {_title(name, columns)}", "epoch", name, series))
    return charts


def _named(column: str, what: str) -> str:
    """A column of metrics.csv in words, such as "validation image loss"."""
    split, _, rest = column.partition("_")
    return " ".join(filter(None, (split, rest.removesuffix(what).removesuffix("_"), what)))


def loss_panels(facts: Facts, columns: Sequence[str]) -> list[list[str]]:
    """The losses that share an axis: those of training stand apart where the others would be a flat line beside them.

    A training's loss may be another quantity: with mixed rows, smoothed labels, or a balance that adds to it. Of parts
    that have losses of their own, too, there are too many for one picture.
    """
    train = [name for name in columns if name.startswith("train_")]
    others = [name for name in columns if name not in train]
    if train and others and len(columns) > MOST_TOGETHER:
        return [train, others]
    spans = [_span(facts, own) for own in (train, others)]
    if None in spans:
        return [list(columns)] if columns else []
    (low, high), (other_low, other_high) = (each for each in spans if each)
    overlap = low <= other_high and other_low <= high
    whole = max(high, other_high) - min(low, other_low)
    flat = min(high - low, other_high - other_low) < FLAT * whole
    return [train, others] if flat and not overlap else [list(columns)]


def _span(facts: Facts, columns: Sequence[str]) -> tuple[float, float] | None:
    """From the least to the greatest of what was measured; None where nothing was."""
    values = [row.get(name) for row in facts.history for name in columns]
    finite = [value for value in values if value is not None and math.isfinite(value)]
    return (min(finite), max(finite)) if finite else None


def _title(name: str, columns: Sequence[str]) -> str:
    """What a chart is of; of the losses of one split alone, which."""
    splits = {column.partition("_")[0] for column in columns}
    return f"{name} ({splits.pop()})" if name == "loss" and len(splits) == 1 else name


def _metric(facts: Facts) -> str:
    """The metric that chose the weights; empty if none did."""
    names = [name for name in shown_columns(facts) if name not in LOSSES]
    return names[0].removeprefix("validation_") if names else ""


def _columns(facts: Facts, name: str) -> list[str]:
    """The columns of metrics.csv of something that was measured of the whole and of each part."""
    if not name:
        return []
    roles = facts.components["components"]
    parts = [role.partition("/")[2] for role in roles if role.startswith(("modality/", "fusion/"))]
    wanted = [f"{split}_{part}" for part in ("", *(f"{part}_" for part in parts)) for split in ("train", "validation")]
    present = {column for row in facts.history for column, value in row.items() if value is not None}
    return list(dict.fromkeys(f"{start}{name}" for start in wanted if f"{start}{name}" in present))


def _time(facts: Facts) -> list[Html]:
    """Seconds of all epochs, rows a second, and the most memory of the device."""
    if not facts.timings:
        return []
    try:
        seconds = sum(float(row["seconds"]) for row in facts.timings)
        speeds = sorted(float(row["rows_per_second"]) for row in facts.timings)
        memory = max(int(row.get("device_memory_bytes") or 0) for row in facts.timings)
    except (KeyError, ValueError):
        return []
    epochs, speed = plural(len(facts.timings), "epoch"), speeds[len(speeds) // 2]
    told = f"{epochs} took {seconds:,.1f} s, at {speed:,.0f} rows a second (median)"
    return [tag("p", f"{told}, with {byte_size(memory)} of the device's memory at most." if memory else f"{told}.")]
