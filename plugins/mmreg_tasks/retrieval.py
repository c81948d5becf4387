"""How well one side of a pair finds the other among those of all rows: recall@k, ranks.

Axes: N pairs, D features.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

RECALLS = (1, 5, 10)
METRICS: Mapping[str, bool] = {"mrr": True, **{f"recall_at_{k}": True for k in RECALLS}, "median_rank": False}
"""The figures of a direction, each with whether more is better."""
TIE = 1e-6
"""Similarities that differ by so much or less are equal: about what float32 and the order of rows change."""
PART = 2**22
"""Similarities that are computed at a time: 32 MiB in float64."""


def placed(left: Tensor, right: Tensor) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """For each row, how many others are more similar to it than its partner, and how many as similar.

    Computed in float64 and in parts: memory grows with N alone.

    Args:
        left: (N, D) unit vectors.
        right: (N, D) their partners.

    Returns:
        Both numbers (N,) for the left sides, which look among the right ones; and for the right sides likewise.
    """
    left, right = left.double(), right.double()
    own = (left * right).sum(1)
    size = max(1, PART // max(1, len(own)))
    rightwards, leftwards = (torch.zeros(2, len(own), dtype=torch.int64) for _ in range(2))
    for start in range(0, len(own), size):
        some = slice(start, start + size)
        similar = left[some] @ right.T
        for counts, at, partner, axis in ((rightwards, some, own[some, None], 1), (leftwards, slice(None), own, 0)):
            counts[0, at] += (similar > partner + TIE).sum(axis)
            counts[1, at] += ((similar - partner).abs() <= TIE).sum(axis)
    # Each row is level with itself.
    return (rightwards[0], rightwards[1] - 1), (leftwards[0], leftwards[1] - 1)


def figures(more: Tensor, tied: Tensor) -> dict[str, float]:
    """The figures of a direction: what is expected if ties are broken at random.

    So of N equal vectors recall@k is k / N, and of a row with one exact double it is found first half of the time.

    Args:
        more: (N,) how many are more similar than the partner, N >= 1.
        tied: (N,) how many others are as similar.
    """
    more, places = more.double(), tied.double() + 1
    found = {"mrr": ((more + places + 1).digamma() - (more + 1).digamma()) / places}
    found |= {f"recall_at_{k}": ((k - more) / places).clamp(0, 1) for k in RECALLS}
    means = {name: float(values.mean()) for name, values in found.items()}
    return {**means, "median_rank": float(np.median((more + (places + 1) / 2).numpy()))}
