"""Which classes are told right, and which are taken for which."""

from __future__ import annotations

from collections.abc import Sequence

from mmreg.console import by_target
from mmreg.messages import cell, plural, shortened
from mmreg_report.labels import LONGEST, label_names
from mmreg_report.markup import Html, joined, scrolled, table, tag
from mmreg_report.matrix import Matrix
from mmreg_report.subject import Subject
from mmreg_report.tables import classes as class_tables
from mmreg_report.tables import measured_split, rows_of

MOST_CLASSES = 30
"""Classes up to which the whole matrix is shown; of more, the pairs that are confused most."""
MOST_PAIRS = 40
MOST_ROWS = 500
"""Classes whose figures are shown."""


def classes(subject: Subject) -> list[Html]:
    """Figures of each class, and confusion matrices."""
    parts = []
    for title, rows in class_tables(subject.facts):
        more = f"; the first {MOST_ROWS} of {len(rows):,}" if len(rows) > MOST_ROWS else ""
        parts.append(
            table([{**row, "name": shortened(row["name"], LONGEST)} for row in rows[:MOST_ROWS]], title + more)
        )
    matrices = (_grid(each) if len(each.labels) <= MOST_CLASSES else _pairs(each) for each in confusions(subject))
    return [*parts, *matrices]


def confusions(subject: Subject) -> list[Matrix]:
    """The confusion matrix of each target that has one."""
    split, found = measured_split(subject.facts), []
    for target, figures in (by_target(subject.facts.report[split]) if split else {}).items():
        counts: Sequence[Sequence[int]] = figures["metrics"].get("confusion") or []
        tasks = subject.task.target_tasks
        names = label_names(tasks[target]) if target in tasks else None
        if counts and names is not None and len(names) == len(counts):
            of = f" of {cell(target)}" if target else ""
            found.append(Matrix(f"Confusion matrix{of} ({rows_of(split)})", names, counts, target))
    return found


def _grid(matrix: Matrix) -> Html:
    """Rows are the true classes; a cell that is clicked shows its rows below."""
    head = tag("tr", tag("td", "true \\ told"), *(tag("th", name, scope="col") for name in matrix.labels))
    lines = []
    for i, (name, counts) in enumerate(zip(matrix.labels, matrix.counts, strict=True)):
        total = sum(counts) or 1
        cells = []
        for j, count in enumerate(counts):
            share = f"--share:{count / total:.3f}"
            look = "n right" if i == j else "n wrong"
            told = f"{name} taken for {matrix.labels[j]}: {plural(count, 'row')}" if i != j else None
            pair = f"{matrix.target}/{i}/{j}" if i != j and count else None
            cells.append(tag("td", count or "\N{MIDDLE DOT}", class_=look, style=share, title=told, data_pair=pair))
        lines.append(tag("tr", tag("th", name, scope="row"), *cells))
    caption = tag("caption", matrix.title, tag("small", " rows: the true class; columns: what was told"))
    body = tag("table", caption, tag("thead", head), tag("tbody", *lines), class_="confusion")
    return scrolled(body, matrix.title)


def _pairs(matrix: Matrix) -> Html:
    pairs = [
        (count, i, j) for i, counts in enumerate(matrix.counts) for j, count in enumerate(counts) if i != j and count
    ]
    pairs.sort(reverse=True)
    rows = [{"true": matrix.labels[i], "told": matrix.labels[j], "rows": count} for count, i, j in pairs[:MOST_PAIRS]]
    if not rows:
        return joined([tag("p", "No class was taken for another.")])
    return table(rows, f"{matrix.title}: of {len(matrix.labels):,} classes, those that are confused most")
