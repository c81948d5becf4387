"""The section of a report that draws the vectors of its rows in two dimensions.

Axes: N rows, D features.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mmreg import Run, Task
from mmreg.messages import cell, plural, shortened
from mmreg.sections import Block, Chart, Reported, Series
from mmreg_embed.projection import principal_plane

MOST_ROWS = 2000
"""Rows that are drawn; of more, others between are left out evenly."""
MOST_CLASSES = 12
"""Classes that have a colour and a shape of their own: those of most rows."""
MOST_TARGETS = 4
PARTS = 5
"""Stretches of as many rows each that a number's range is divided into."""
LONGEST = 40
"""Characters of a label or key that are shown."""


def section(reported: Reported) -> list[Block]:
    """A map for each target, the fused vectors' two directions of greatest variance; nothing without the table."""
    if reported.known is None or len(reported.known.rows) < 2:
        return []
    run, known = reported.run, _some(reported.known)
    keys, points, shares, there = _plane(run, known)
    if len(points) < 2:
        return []
    charts = [
        Chart(
            f"Fused vectors{f', by {cell(name)}' if name else ''}",
            f"first direction ({shares[0]:.0%} of all variance)",
            f"second direction ({shares[1]:.0%})",
            _series(keys, points, groups),
        )
        for name, groups in _groups(run.task, known.targets[there])
    ]
    of = len(reported.known.rows)
    rows = plural(of, "row") if of == len(known.rows) else f"{len(known.rows):,} of {of:,} rows"
    text = (
        f"The fused vectors of {rows}, as mmreg embed gives them, in the plane in which they differ most (PCA). It has "
        f"{sum(shares):.0%} of their variance: what lies together here may lie apart in the rest."
    )
    return [text, *charts]


def _some(known: Any) -> Any:
    places = np.linspace(0, len(known.rows) - 1, min(len(known.rows), MOST_ROWS)).round().astype(int)
    return replace(known, rows=known.rows[places], targets=known.targets[places])


def _plane(run: Run, known: Any) -> tuple[list[str], NDArray[np.float64], tuple[float, float], NDArray[np.int64]]:
    """The keys of the rows that have a vector, their points (N, 2), the shares of variance, and which rows they are."""
    keys: list[str] = []
    there: list[int] = []
    parts = []
    done = 0
    for part in run.vectors(known):
        has = np.flatnonzero(part.vectors.present.any(1).numpy())
        keys += [shortened(str(part.keys[at]), LONGEST) for at in has.tolist()]
        there += (done + has).tolist()
        parts.append(part.vectors.fused[torch.from_numpy(has)])
        done += len(part.rows)
    points, shares = principal_plane(lambda: parts, parts[0].shape[1])
    return keys, points, shares, np.array(there, np.int64)


def _series(keys: Sequence[str], points: NDArray[np.float64], groups: dict[str, NDArray[np.int64]]) -> list[Series]:
    return [
        Series(
            name,
            points[places, 0].tolist(),
            points[places, 1].tolist(),
            "points",
            [f"{keys[at]}{': ' * bool(name)}{name}" for at in places.tolist()],
        )
        for name, places in groups.items()
    ]


def _groups(task: Task, targets: NDArray[Any]) -> list[tuple[str, dict[str, NDArray[np.int64]]]]:
    """For each target the places of rows by what colours them; of a task without classes or numbers, all alike."""
    found = []
    for name, view in task.targets().items() if task.needs_target else ():
        known = np.flatnonzero(view.has(torch.from_numpy(targets)).numpy())
        if not len(known):
            continue
        own = view.known(torch.zeros(len(targets), task.num_outputs), torch.from_numpy(targets))[1].numpy()
        labels = getattr(view.task, "labels", None)
        if view.task.space == "log_probabilities" and isinstance(labels, list | tuple):
            found.append((name, _by_class([str(labels[k]) for k in own.tolist()], known)))
        elif view.task.space == "values" and own.size == len(known):
            told = view.task.predictions(torch.from_numpy(own))
            found.append((name, _by_size(np.array(next(iter(told.values())), np.float64), known)))
    return found[:MOST_TARGETS] or [("", {"": np.arange(len(targets))})]


def _by_class(labels: Sequence[str], places: NDArray[np.int64]) -> dict[str, NDArray[np.int64]]:
    chosen = sorted(label for label, _ in Counter(labels).most_common(MOST_CLASSES))
    own = np.array([chosen.index(label) if label in chosen else -1 for label in labels])
    groups = {shortened(label, LONGEST): places[own == number] for number, label in enumerate(chosen)}
    return groups | ({"(all others)": places[own < 0]} if (own < 0).any() else {})


def _by_size(values: NDArray[np.float64], places: NDArray[np.int64]) -> dict[str, NDArray[np.int64]]:
    edges = np.unique(np.quantile(values, np.linspace(0, 1, PARTS + 1)))
    own = np.searchsorted(edges[1:-1], values, side="right")
    return {f"{cell(edges[n])} to {cell(edges[n + 1])}": places[own == n] for n in range(len(edges) - 1)} or {
        cell(edges[0]): places
    }
