"""How good it is: every figure of every split, with intervals, beside what one answer for all rows would give."""

from __future__ import annotations

from typing import Any

from mmreg.console import by_target, figure_rows
from mmreg.messages import cell
from mmreg_report.intervals import bootstrap_intervals
from mmreg_report.markup import Html, table, tag
from mmreg_report.subject import Subject
from mmreg_report.tables import SPLITS, rows_of, rows_of_parts, trainings


def figures(subject: Subject) -> list[Html]:
    """A table for each target, and intervals of the figures that have none of their own (accuracy has Wilson's)."""
    tables: dict[str, list[dict[str, Any]]] = {}
    for split, called in SPLITS.items():
        if split in subject.facts.report:
            for target, own in by_target(subject.facts.report[split]).items():
                tables.setdefault(target, []).extend({"split": called, **row} for row in figure_rows(own))
    if not tables:
        return [tag("p", "There were neither validation nor test rows to measure on.")]
    parts = [table(rows, f"Figures of {cell(target)}" if target else "Figures") for target, rows in tables.items()]
    told = rows_of_parts(subject.facts)
    parts += [*([tag("p", told)] if told else []), *_intervals(subject)]
    return [*parts, *(table(rows, title) for title, rows in trainings(subject.facts))]


def _intervals(subject: Subject) -> list[Html]:
    """Where the figures of each target would lie if other rows had been drawn."""
    if subject.run is None:
        return []
    parts = []
    for target in subject.each_target():
        found = bootstrap_intervals(target.task, target.scores, target.targets)
        own = target.task.evaluate(target.scores, target.targets).get("intervals", {})  # which stand above
        rows = [
            {"metric": name, "value": value, "from": low, "to": high}
            for name, (value, (low, high)) in found.items()
            if name not in own
        ]
        if rows:
            of = f" of {cell(target.name)}" if target.name else ""
            parts.append(table(rows, f"95% intervals{of} ({rows_of(subject.split)}; bootstrap over rows)"))
    return parts
