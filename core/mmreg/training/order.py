"""Which rows come together in the batches of an epoch, and in which order."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mmreg.model.seeding import derive
from mmreg.recipe.form import Training
from mmreg.training.sampling import balanced_rows


def epoch_order(
    rows: int, options: Training, epoch: int, classes: NDArray[np.int64] | None = None
) -> list[NDArray[np.int64]]:
    """The batches of an epoch, the same whenever they are asked for.

    Args:
        rows: how many training rows there are.
        options: of the training.
        epoch: which epoch, from 0.
        classes: (R,) the class of each row, where classes are to be balanced.

    Returns:
        For each batch the positions (B,) int64 of its rows among the training rows.
    """
    random = np.random.default_rng(derive(options.seed, "order", epoch))
    order = random.permutation(rows) if classes is None else balanced_rows(classes, options.class_balance, random)
    return [order[start : start + options.batch_size] for start in range(0, rows, options.batch_size)]
