"""What each modality contributes: the figures with each subset of them, the others being left out."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np

from mmreg.console import numbers
from mmreg.errors import MmregError
from mmreg.messages import one_line
from mmreg.sections import Bars
from mmreg_report.markup import Html, table, tag
from mmreg_report.subject import Subject
from mmreg_report.tables import rows_of

MOST_EXHAUSTIVE = 4
"""Modalities up to which every subset is measured; of more, each alone, all but each, and all."""
MOST_MODALITIES = 12


def subsets(subject: Subject) -> list[Html]:
    """A table with a row for each subset."""
    names = [] if subject.run is None else list(subject.run.inputs)
    if len(names) < 2 or subject.measured is None or not subject.task.needs_target:
        return []
    try:
        rows = measured_subsets(subject)
    except MmregError as error:  # a plugin's operator may refuse rows without some of its parts
        return [tag("p", f"The model could not be measured without some of its modalities: {one_line(error)}")]
    text = (
        f"The same {len(subject.measured.rows):,} {rows_of(subject.split)} each time, as the model is, with all other "
        "modalities taken away. A row without any of them gets the training prior."
    )
    main = subject.task.main_metric
    return [tag("p", text), table(rows, "Figures by what the model is given", bars=main if _share(rows, main) else "")]


def measured_subsets(subject: Subject) -> list[dict[str, Any]]:
    """The figures with each subset of the modalities."""
    run, known = subject.run, subject.measured
    assert run is not None
    names, found = list(run.inputs), []
    for subset in _chosen(names):
        left_out = [each for name in names if name not in subset for each in run.inputs[name]]
        drop = {name: np.ones(len(known.rows), bool) for name in left_out}
        scores = run.predict_rows(known.prepared, known.rows, drop=drop).scores if drop else subject.scores
        assert scores is not None
        assert subject.targets is not None
        present = [known.prepared[each].present[known.rows] for name in subset for each in run.inputs[name]]
        without = int((~np.any(present, 0)).sum())
        figures = numbers(run.task.evaluate(scores, subject.targets))
        found.append({"modalities": " + ".join(subset), **figures} | ({"without any": without} if without else {}))
    return found


def subset_bars(subject: Subject) -> list[Bars]:
    """The main metric with each subset."""
    if subject.run is None or len(subject.run.inputs) < 2 or not subject.task.needs_target:
        return []
    main = subject.task.main_metric
    rows = measured_subsets(subject)
    title = f"{main} by what the model is given ({rows_of(subject.split)})"
    return [Bars(title, main, {row["modalities"]: row[main] for row in rows if main in row})]


def _chosen(names: list[str]) -> list[tuple[str, ...]]:
    count = len(names)
    sizes = list(range(1, count + 1)) if count <= MOST_EXHAUSTIVE else [1, count - 1, count]
    sizes = sizes if count <= MOST_MODALITIES else [1, count]
    return [subset for size in sizes for subset in combinations(names, size)]


def _share(rows: list[dict[str, Any]], name: str) -> bool:
    """Whether a metric is a share of something in all rows, of which a bar can be drawn."""
    return all(0 <= row.get(name, -1) <= 1 for row in rows)
