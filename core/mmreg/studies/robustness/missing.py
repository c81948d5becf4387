"""Which modalities are left out: subsets of them, or each at random at some rate.

Axes: R rows, M modalities.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from mmreg.model.seeding import derive

MOST_EXHAUSTIVE = 5
"""Modalities up to which every subset is measured; 5 have 31 of them, 6 would have 63."""
MOST_SUBSETS = 32
"""Subsets that are measured of more modalities, unless the fixed ones alone are more."""


def subsets(names: Sequence[str], seed: int = 0) -> list[tuple[str, ...]]:
    """Non-empty subsets of the modalities, small ones first: all 2^M - 1 of them up to M = 5.

    Past that a cover: each modality alone, all but each, all together, and random others up to 32 in all.

    Args:
        names: the M modalities.
        seed: what the random ones are drawn by.

    Example:
        >>> subsets(["image", "text"])
        [('image',), ('text',), ('image', 'text')]
    """
    count = len(names)
    sizes = range(1, count + 1) if count <= MOST_EXHAUSTIVE else (1, count - 1, count)
    chosen = {subset for size in sizes for subset in combinations(range(count), size)}
    if count > MOST_EXHAUSTIVE:
        random = np.random.default_rng(derive(seed, "subsets"))
        while len(chosen) < MOST_SUBSETS:
            drawn = tuple(np.flatnonzero(random.random(count) < 0.5).tolist())
            if drawn:
                chosen.add(drawn)
    ordered = sorted(chosen, key=lambda subset: (len(subset), subset))
    return [tuple(names[index] for index in subset) for subset in ordered]


def all_but(names: Sequence[str], subset: Sequence[str], rows: int) -> dict[str, NDArray[np.bool_]]:
    """What leaves every modality outside a subset out: for each of them (R,) True."""
    return {name: np.ones(rows, bool) for name in names if name not in subset}


def at_rate(names: Sequence[str], rate: float, rows: int, seed: int = 0) -> dict[str, NDArray[np.bool_]]:
    """For each modality (R,) bool, the rows that lose it: each independently with the probability `rate`.

    A row that loses a modality at some rate loses it at every higher one as well, so a curve over rates falls by what
    is missing, and not by which rows were drawn anew. The draws depend on the seed and the modality's name alone.

    Args:
        names: the M modalities.
        rate: from 0 (none) to 1 (all).
        rows: R.
        seed: what the rows are drawn by.
    """
    draws = {name: np.random.default_rng(derive(seed, "missing_rate", name)).random(rows) for name in names}
    return {name: drawn < rate for name, drawn in draws.items()}
