"""Which rows come together in the batches of an epoch, and in which order."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mmreg.model.seeding import derive
from mmreg.recipe.form import Training


def epoch_order(rows: int, options: Training, epoch: int) -> list[NDArray[np.int64]]:
    """The batches of an epoch, the same whenever they are asked for.

    Args:
        rows: how many training rows there are.
        options: of the training.
        epoch: which epoch, from 0.

    Returns:
        For each batch the positions (B,) int64 of its rows among the training rows.
    """
    order = np.random.default_rng(derive(options.seed, "order", epoch)).permutation(rows)
    return [order[start : start + options.batch_size] for start in range(0, rows, options.batch_size)]
