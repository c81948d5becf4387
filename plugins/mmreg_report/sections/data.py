"""What it was trained on: rows of each split, classes, and what is absent or could not be loaded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from mmreg.messages import cell, plural
from mmreg_report.inputs import Inputs
from mmreg_report.labels import label_names
from mmreg_report.markup import Html, folded, table, tag
from mmreg_report.subject import Subject
from mmreg_report.tables import rows_of

MOST_BAD = 20
"""Cells that could not be loaded that are shown one by one."""
MOST_CLASSES = 200
MOST_EXAMPLES = 5
EXAMPLE_BYTES = 1_000_000
"""Of the pictures and sounds of the examples, as they stand in the page."""


def data(subject: Subject) -> list[Html]:
    """Tables of rows, of classes, and of each modality's cells."""
    parts = [table([{"split": name, "rows": count} for name, count in subject.facts.rows.items()], "Rows")]
    parts = parts if subject.facts.rows else []
    parts += [table(counts[:MOST_CLASSES], title) for title, counts in _classes(subject)]
    if subject.known:
        parts.append(table(_presence(subject), "Rows that have each modality"))
    below = [*_bad(subject), *_examples(subject)]
    return [tag("div", *parts, class_="side"), *below] if parts else below


def _classes(subject: Subject) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """For each target with exclusive classes a title, and how many rows of each split have each class."""
    encoded = {split: torch.from_numpy(known.targets) for split, known in subject.known.items()}
    if not encoded and subject.targets is not None:
        encoded = {str(subject.split): subject.targets}
    for target, view in subject.task.targets().items():
        names = label_names(view.task)
        if not encoded or view.task.space != "log_probabilities" or names is None:
            continue
        counts = {s: torch.bincount(view.own(own), minlength=len(names)).tolist() for s, own in encoded.items()}
        rows = [{"class": name, **{split: own[k] for split, own in counts.items()}} for k, name in enumerate(names)]
        yield f"Rows of each class{f' of {cell(target)}' if target else ''}", rows


def _presence(subject: Subject) -> list[dict[str, Any]]:
    rows = []
    for split, known in subject.known.items():
        inputs = {} if subject.run is None else subject.run.inputs
        for name, modalities in inputs.items():
            prepared = known.prepared[modalities[0]]
            there, bad = int(prepared.present[known.rows].sum()), int(prepared.bad_rows[known.rows].sum())
            rows.append(
                {"modality": name, "split": split, "rows": len(known.rows), "present": there}
                | {"absent": len(known.rows) - there - bad, "could not be loaded": bad}
            )
    if not any(row["could not be loaded"] for row in rows):
        rows = [{key: value for key, value in row.items() if key != "could not be loaded"} for row in rows]
    return rows


def _examples(subject: Subject) -> list[Html]:
    """Some rows with their inputs, of training if that is at hand; where there are classes, one of each."""
    if not subject.known:
        return []
    split = "train" if "train" in subject.known else next(iter(subject.known))
    known, names = subject.known[split], label_names(subject.task)
    classed = subject.task.space == "log_probabilities" and names is not None
    places = np.unique(known.targets, return_index=True)[1] if classed else np.arange(len(known.rows))
    inputs, rows = Inputs(subject, EXAMPLE_BYTES, known), []
    for place in places[:MOST_EXAMPLES].tolist():
        number = int(known.table.row_numbers[known.rows[place]]) + 1
        called = {"class": names[int(known.targets[place])]} if classed and names is not None else {}
        rows.append({"row": number, **called, **inputs.of(place)})
    return [folded("Some of the rows", table(rows, f"Examples ({rows_of(split)})", stacks=True))]


def _bad(subject: Subject) -> list[Html]:
    """The cells that could not be loaded."""
    counts = {name: count for name, count in subject.facts.report.get("bad_cells", {}).items() if count}
    if not counts:
        return []
    told = ", ".join(f"{cell(name)}: {count}" for name, count in counts.items())
    known = next(iter(subject.known.values()), None)
    bad = [] if known is None else [each for prepared in known.prepared.values() for each in prepared.bad]
    shown = [{"row": b.where, "column": b.column, "cell": b.value, "cause": b.cause} for b in bad[:MOST_BAD]]
    text = tag("p", f"Cells that could not be loaded: {told}.")
    return [text, folded(plural(len(shown), "such cell"), table(shown, "Cells that could not be loaded"))][
        : 1 + bool(bad)
    ]
