"""What a person should know about labels before a training: which are hardly different, too frequent or too rare.

Axes: K classes or labels.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmreg import Concern
from mmreg.messages import listed, shown
from mmreg_tasks.labels import Label, essence

MOST = 0.8
"""A class that more than this share of the training rows has makes accuracy say little."""
FEW_ROWS = 10
"""Of a class or label with fewer rows than this, in all splits, hardly anything can be learned or measured."""
NAMED = 5
"""How many labels a line names."""


def alike(labels: Sequence[Label]) -> list[Concern]:
    """Labels of text that differ in case, blanks or the way a number is written only."""
    groups: dict[Any, list[Label]] = defaultdict(list)
    for label in labels:
        groups[essence(label)].append(label)
    # Not `shown`, which leaves blanks out.
    pairs = [" and ".join(map(repr, group)) for group in groups.values() if len(group) > 1]
    if not pairs:
        return []
    what = "labels that differ only in case, in blanks or in how a number is written count as different"
    return [Concern(f"{what}: {listed(pairs, NAMED)}")]


def dominant(labels: Sequence[Label], counts: NDArray[np.int64], weighted: bool) -> list[Concern]:
    """A class that nearly all rows have.

    Args:
        labels: the K labels.
        counts: (K,) training rows of each.
        weighted: whether classes are weighted already.
    """
    share = counts.max() / counts.sum()
    if share <= MOST:
        return []
    what = f"{shown(labels[int(counts.argmax())])} is the label of {100 * share:.3g}% of the training rows"
    if weighted:
        return [
            Concern(
                f"{what}: class_weights make up for it in the loss, and balanced_accuracy says more than accuracy",
                metric="balanced_accuracy",
            )
        ]
    text = (
        f"{what}: accuracy says little, and the other labels may never be predicted; set class_weights: balanced in "
        "the target, and training.metric: balanced_accuracy"
    )
    return [Concern(text, {"class_weights": "balanced"}, "balanced_accuracy")]


def too_few(noun: str, labels: Sequence[Label], counts: Mapping[str, NDArray[np.int64]]) -> list[Concern]:
    """Classes or labels with few rows, and those that a split for measuring lacks.

    Args:
        noun: what one is called.
        labels: the K labels.
        counts: by split, (K,) rows of each.
    """
    many = noun + ("es" if noun.endswith("s") else "s")
    totals = np.sum(list(counts.values()), 0)
    found = []
    rare = np.flatnonzero(totals < FEW_ROWS).tolist()
    if rare:
        have, them = ("has", "it") if len(rare) == 1 else ("have", "them")
        rows = listed((f"{shown(labels[k])} ({totals[k]})" for k in rare), NAMED)
        text = f"{len(rare)} of {len(labels)} {many} {have} fewer than {FEW_ROWS} rows: {rows}"
        found.append(Concern(f"{text}; hardly anything can be learned of {them}"))
    lacking = []
    for split, own in counts.items():
        absent = np.flatnonzero(own == 0).tolist()
        if absent and split != "train":  # what training rows lack is no label
            lacking.append(f"without a {split} row: {listed((shown(labels[k]) for k in absent), NAMED)}")
    if lacking:
        found.append(Concern(f"{many} {'; '.join(lacking)}; nothing is measured of them there"))
    return found
