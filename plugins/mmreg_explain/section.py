"""The section of a report that tells which modality decided, over all rows and in those that the report shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from mmreg.errors import OptionError
from mmreg.messages import cell, plural
from mmreg.sections import Bars, Block, Reported, Table
from mmreg_explain.explanation import Explanation
from mmreg_explain.modalities import coalitions_of, explain
from mmreg_explain.sampling import ROUNDS

MOST_ASKED = 20_000
"""Rows times subsets of modalities that the model is asked, so that a report of many rows takes seconds."""
FEWEST_ROWS = 50
MOST_TARGETS = 4


def section(reported: Reported) -> list[Block]:
    """Shares, interactions and rows for each target; nothing without the table, or of a single modality."""
    run, known = reported.run, reported.known
    if known is None or len(run.inputs) < 2:
        return []
    subsets = len(coalitions_of(len(run.inputs), ROUNDS, 0).members)
    places = _places(len(known.rows), max(FEWEST_ROWS, MOST_ASKED // subsets))
    blocks: list[Block] = []
    for name in list(run.task.targets())[:MOST_TARGETS]:
        target = name if len(run.task.targets()) > 1 else None
        try:
            overall = explain(run, _some(known, places), target=target)
            rows = explain(run, _some(known, reported.shown), target=target) if reported.shown else None
        except OptionError:  # what is predicted is no probability nor a single number
            continue
        blocks += _told(overall, rows, len(known.rows), f" of {cell(name)}" if target else "")
    return blocks


def _places(count: int, most: int) -> Sequence[int]:
    """All of so many rows; of more, evenly some."""
    places: Sequence[int] = np.linspace(0, count - 1, min(count, most)).round().astype(int).tolist()
    return places


def _some(known: Any, places: Sequence[int]) -> Any:
    chosen = np.asarray(places, np.int64)
    return replace(known, rows=known.rows[chosen], targets=known.targets[chosen])


def _told(overall: Explanation, rows: Explanation | None, of: int, target: str) -> list[Block]:
    lines = overall.overall()
    shares = {line["modality"]: line["share"] for line in lines if line["share"] is not None}
    if not shares:
        return [f"No modality changes the {overall.what}."]
    count = plural(of, "row") if of == len(overall) else f"{len(overall):,} of {of:,} rows"
    how = "all" if overall.exact else "random"
    text = (
        f"How much each modality moves the {overall.what} away from what the model says of a row without any: Shapley "
        f"values over {how} {overall.subsets:,} subsets of the modalities, of {count}. InterSHAP is "
        f"{cell(overall.overall_intershap)}: 0 where each counts by itself, 1 where they count only together."
    )
    table = [
        {
            "modality": line["modality"],
            "rows that have it": line["rows"],
            "rows that it decided": line["decided"],
            "mean size": line["mean_size"],
            "mean": line["mean"],
            **({"standard error": line["standard_error"]} if "standard_error" in line else {}),
        }
        for line in lines
    ]
    pairs = f"Mean interactions{target} (on the diagonal each by itself; beside it half of each pair's)"
    shown = f"What each modality adds in the rows that are shown{target}"
    return [
        text,
        Bars(f"Share of each modality{target}", "share", shares),
        Table(f"What each modality adds{target}", table),
        Table(pairs, _matrix(overall)),
        *([] if rows is None else [Table(shown, _rows(rows), folded=True)]),
    ]


def _matrix(found: Explanation) -> list[dict[str, Any]]:
    mean = found.interactions.mean(0).tolist()
    return [
        {"with": name, **dict(zip(found.modalities, line, strict=True))}
        for name, line in zip(found.modalities, mean, strict=True)
    ]


def _rows(found: Explanation) -> list[dict[str, Any]]:
    """The rows that the report shows one by one."""
    lines = []
    for number, key in enumerate(found.keys):
        line: dict[str, Any] = {found.key: str(key), "output": found.outputs[number]}
        line |= {"told": float(found.values[number]), "without any": float(found.base[number])}
        for place, name in enumerate(found.modalities):
            there = found.present[number, place]
            line[f"{name} " if name in line else name] = float(found.shapley[number, place]) if there else "absent"
        lines.append(line)
    return lines
