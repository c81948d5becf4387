"""The page that compares several runs: figures, paired differences, curves over each other, differing recipe keys."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mmreg
from mmreg.console import by_target, numbers, unmeasured
from mmreg.errors import MmregError, RunError
from mmreg.messages import cell, listed, one_line, plural
from mmreg.sections import Chart, Series
from mmreg_report.markup import Html, table, tag
from mmreg_report.page import page
from mmreg_report.reading import DAMAGED
from mmreg_report.sections.curves import curve_charts
from mmreg_report.subject import Subject
from mmreg_report.svg import draw
from mmreg_report.tables import measured_split, rows_of

RESAMPLES = 1000
"""Draws of the rows for the intervals of differences, as many as take no more than seconds."""
OWN_KEYS = frozenset({"table"})
"""Keys of a recipe whose values are paths, which say nothing when they differ."""


def comparison_page(subjects: Sequence[Subject]) -> str:
    """The text of the page; runs are told apart by their folders' names, and by number where these are the same."""
    names = _names(subjects)
    sections = {
        "Figures": [table(_figures(subjects, names), "Figures of the held-out rows"), *_differences(subjects, names)],
        "Learning curves": _curves(subjects, names),
        "Differing recipe keys": _keys(subjects, names),
    }
    notes = [tag("p", note) for subject in subjects for note in subject.notes]
    return page("Comparison of " + ", ".join(names), notes, sections)


def _names(subjects: Sequence[Subject]) -> list[str]:
    names = [subject.facts.name for subject in subjects]
    return [f"{name} ({n})" if names.count(name) > 1 else name for n, name in enumerate(names, 1)]


def _figures(subjects: Sequence[Subject], names: Sequence[str]) -> list[dict[str, Any]]:
    rows = []
    for subject, name in zip(subjects, names, strict=True):
        with _telling_of(subject):
            rows.append({"run": name, **_told_of(subject)})
    return rows


def _told_of(subject: Subject) -> dict[str, Any]:
    """A run's row of the table of figures."""
    split = measured_split(subject.facts)
    facts: dict[str, Any] = {"parameters": sum(p.numel() for p in subject.model.parameters())}
    seconds = [float(row["seconds"]) for row in subject.facts.timings if row.get("seconds")]
    facts |= {"seconds": sum(seconds)} if seconds else {}
    for target, own in by_target(subject.facts.report[split]).items() if split else ():
        start = f"{cell(target)}: " if target else ""
        facts |= {"split": split, "rows": own["rows"]}
        for metric, value in numbers(own["metrics"]).items():
            facts[f"{start}{metric}"] = value
            if metric in own["metrics"].get("intervals", {}):
                low, high = own["metrics"]["intervals"][metric]
                facts[f"{start}{metric} 95% interval"] = f"{low:.3g} to {high:.3g}"
    return facts


@contextmanager
def _telling_of(subject: Subject) -> Iterator[None]:
    """Name the run whose report says what cannot be told."""
    try:
        yield
    except DAMAGED as error:
        raise RunError(unmeasured(subject.facts.folder, one_line(error))) from error


def _differences(subjects: Sequence[Subject], names: Sequence[str]) -> list[Html]:
    """How the runs that were measured on the first one's rows differ, two by two, with paired tests."""
    first = subjects[0]
    if not first.task.needs_target:
        return []
    alike = {name: subject for name, subject in zip(names, subjects, strict=True) if _same_rows(first, subject)}
    others = [name for name in names if name not in alike]
    parts = (
        [] if not others else [tag("p", f"On other rows, or with another target, so not compared: {listed(others)}.")]
    )
    if len(alike) < 2:
        return parts
    metric = first.task.main_metric
    try:
        found = mmreg.compare(
            {name: subject.saved or subject.facts.folder for name, subject in alike.items()},
            metric=metric,
            split=first.split,
            resamples=RESAMPLES,
        )
    except MmregError as error:
        return [*parts, tag("p", f"The runs could not be tested against each other: {one_line(error)}")]
    pairs = [{**pair_row(pair), "first is": str(pair.verdict)} for pair in found.pairs]
    exact = any(pair.test == "mcnemar" for pair in found.pairs)
    test = "McNemar's exact test of the rows that only one of the two has right" if exact else "a paired bootstrap"
    text = (
        f"Two by two on the same {found.rows:,} {rows_of(found.split)}: the {metric} of the first less that of the "
        f"second, with the 95% interval of {RESAMPLES} draws of the rows (bootstrap); p by {test}, and after Holm's "
        f"correction for {plural(len(pairs), 'pair')}. One is called better or worse if the corrected p is below 0.05."
    )
    return [*parts, tag("p", text), table(pairs, f"Differences in {metric}")]


def pair_row(pair: Any) -> dict[str, Any]:
    """What is told of two runs, as a row of a table."""
    low, high = pair.interval or (None, None)
    row: dict[str, Any] = {"first": pair.first, "second": pair.second, "difference": pair.difference}
    row |= {"from": low, "to": high}
    if pair.mcnemar is not None:
        row |= {"only first right": pair.mcnemar[0], "only second right": pair.mcnemar[1]}
    return {**row, "p": pair.p, "p (Holm)": pair.adjusted_p}


def _same_rows(first: Subject, other: Subject) -> bool:
    if first is other:
        return True
    if other.scores is None or other.targets is None or first.targets is None or first.split != other.split:
        return False
    same = first.targets.shape == other.targets.shape and bool((first.targets == other.targets).all())
    return same and first.keys == other.keys and first.task.state() == other.task.state()


def _curves(subjects: Sequence[Subject], names: Sequence[str]) -> list[Html]:
    """The validation loss and metric of the whole model, of all runs over each other."""
    found: dict[str, list[Series]] = {}
    for subject, name in zip(subjects, names, strict=True):
        with _telling_of(subject):
            charts = curve_charts(subject.facts)
        for chart in charts:
            for series in chart.series:
                if series.name == f"validation {chart.y}":
                    found.setdefault(series.name, []).append(Series(name, series.x, series.y))
    drawn = [Chart(f"Learning curves: {title}", "epoch", title, series) for title, series in found.items()]
    return [tag("div", *map(draw, drawn), class_="charts")] if drawn else []


def _keys(subjects: Sequence[Subject], names: Sequence[str]) -> list[Html]:
    """The keys of which not all recipes have the same value."""
    recipes = [
        {key: _without_folders(each) for key, each in subject.recipe.items() if key not in OWN_KEYS}
        for subject in subjects
    ]
    rows = [{"key": key, **dict(zip(names, values, strict=True))} for key, values in differing(recipes)]
    return [table(rows, "Differing recipe keys")] if rows else [tag("p", "The recipes are the same.")]


def differing(values: Sequence[Any], key: str = "") -> Iterator[tuple[str, list[str]]]:
    """Each dotted key of which not all of several values are the same, with these as texts.

    Of what only some have, or of components of different names, the options that only some have are not told.

    Example:
        >>> list(differing([{"fusion": {"name": "sum"}, "seed": 0}, {"fusion": {"name": "mean"}, "seed": 0}]))
        [('fusion.name', ['sum', 'mean'])]
    """
    if all(value == values[0] for value in values):
        return
    if not all(isinstance(value, Mapping) for value in values):
        yield key, [_told(value) for value in values]
        return
    same = all(value.get("name") == values[0].get("name") for value in values)
    for name in dict.fromkeys(name for value in values for name in value):
        if same or all(name in value for value in values):
            below = [value.get(name) for value in values]
            yield from differing(below, f"{key}.{name}" if key else str(name))


def _without_folders(value: Any) -> Any:
    """A recipe's value with the files of a run's own folder by their names, which do not tell where that is."""
    if isinstance(value, Mapping):
        return {key: _without_folders(each) for key, each in value.items()}
    if isinstance(value, str) and Path(value).parent.name == "assets":
        return Path(value).name
    return value


def _told(value: Any) -> str:
    """A value in short: of a component or an input its name."""
    if isinstance(value, Mapping):
        return str(value.get("name") or value.get("type") or dict(value))
    return "" if value is None else str(list(value) if isinstance(value, tuple) else value)
