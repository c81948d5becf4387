"""Percentile intervals of every number that a task measures, by the bootstrap over rows (Efron 1979)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from torch import Tensor

from mmreg import Task
from mmreg.console import numbers
from mmreg.errors import MmregError

RESAMPLES = 300
MOST_NUMBERS = 4_000_000
"""Scores up to which the rows are drawn anew; of more, an interval would be narrow and would take long."""
MOST_OUTPUTS = 200
"""Classes up to which they are: a confusion matrix of thousands would be made for each draw."""


def can_be_drawn(scores: Tensor) -> bool:
    """Whether there are enough rows, and few enough numbers, for rows to be drawn anew."""
    return len(scores) > 1 and scores.numel() <= MOST_NUMBERS and scores.shape[1] <= MOST_OUTPUTS


def bootstrap_intervals(
    task: Task, scores: Tensor, targets: Tensor, seed: int = 0
) -> dict[str, tuple[float, tuple[float, float]]]:
    """Each number that the task measures of some rows, with its interval at 95 %.

    Args:
        task: what is predicted.
        scores: (N, K).
        targets: as the task encodes them.
        seed: of the draws.

    Returns:
        By the metric's name its value and the interval; nothing where there are too few rows or too many numbers.
    """
    if not can_be_drawn(scores):
        return {}
    value = numbers(task.evaluate(scores, targets))
    drawn: dict[str, list[float]] = {name: [] for name in value}
    for row in resampled(task, scores, targets, seed):
        for name, figure in row.items():
            if name in drawn and math.isfinite(figure):
                drawn[name].append(figure)
    return {
        name: (value[name], (float(np.percentile(own, 2.5)), float(np.percentile(own, 97.5))))
        for name, own in drawn.items()
        if len(own) >= RESAMPLES / 2
    }


def resampled(task: Task, scores: Tensor, targets: Tensor, seed: int = 0) -> list[dict[str, float]]:
    """The numbers of each draw of rows with replacement; the same draws for as many rows and the same seed."""
    random = np.random.default_rng(seed)
    figures: list[dict[str, Any]] = []
    for _ in range(RESAMPLES):
        rows = random.integers(len(scores), size=len(scores))
        try:
            figures.append(numbers(task.evaluate(scores[rows], targets[rows])))
        except MmregError:  # a draw on which nothing can be measured
            figures.append({})
    return figures
