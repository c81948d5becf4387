"""Drawing an epoch's rows so that rare classes are seen as often as common ones.

Axes: R training rows, K labels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmreg.contract.task import Space
from mmreg.data.targets import rarest_labels


def row_classes(space: Space, targets: NDArray[Any]) -> NDArray[np.int64] | None:
    """The class of each row (R,), of several labels a row its rarest one; None where numbers are predicted.

    Args:
        space: of the task's scores.
        targets: (R,) or (R, K), as the task encodes them.
    """
    if space == "log_probabilities":
        return np.asarray(targets, np.int64)
    return rarest_labels(targets > 0) if space == "log_odds" else None


def balanced_rows(classes: NDArray[np.int64], balance: float, random: np.random.Generator) -> NDArray[np.int64]:
    """The positions (R,) of as many rows as there are, drawn class by class, in random order.

    A class of n rows is drawn R n^(1 - balance) / sum(n^(1 - balance)) times, up to less than one, which chance decides
    so that this is what is expected. Its rows are gone through as often as that goes, each as often as the others up to
    one.

    Args:
        classes: (R,) the class of each row.
        balance: 0 for as the rows are, 1 for all classes alike.
        random: where the draws come from.
    """
    _, of_row, counts = np.unique(classes, return_inverse=True, return_counts=True)
    shares = counts.astype(np.float64) ** (1 - balance)
    # Systematic sampling: one draw shifts all bounds, so that the rounded numbers sum to R and each is unbiased.
    bounds = np.floor(np.cumsum(shares) / shares.sum() * len(classes) + random.random()).astype(np.int64)
    bounds[-1] = len(classes)
    drawn = []
    for number, (count, wanted) in enumerate(zip(counts, np.diff(bounds, prepend=0), strict=True)):
        rows = random.permutation(np.flatnonzero(of_row == number))
        drawn.append(np.resize(rows, wanted) if wanted >= count else rows[:wanted])
    return random.permutation(np.concatenate(drawn))
