"""Which rows come together in the batches of an epoch, and in which order."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from torch import nn

from mmreg.data.batches import in_batches
from mmreg.data.lengths import padding_share, ragged_bytes, similar_lengths
from mmreg.data.prepared import Prepared
from mmreg.model.seeding import derive
from mmreg.recipe.training_form import Training
from mmreg.training.sampling import balanced_rows

MUCH_PADDING = 0.6
"""The share of padding from which on `bucket: auto` puts rows of similar length together."""


def bucket_lengths(
    prepared: Mapping[str, Prepared], rows: NDArray[np.int64], options: Training, model: nn.Module
) -> NDArray[np.int64] | None:
    """The lengths (R,) of training rows by which they come together; None where the recipe does not want it.

    Norms over a batch learn from batches of like rows what holds of no other: sounds of 0.3 to 2 s (half padding) came
    to an accuracy of 0.36 instead of 0.46 (three seeds, 8 epochs), while texts in a recurrent network lost nothing.

    Args:
        prepared: the modalities.
        rows: (R,) the training rows.
        options: of the training.
        model: what is trained.
    """
    wanted = options.bucket
    if wanted == "auto":
        batch_norms = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules())
        wanted = not batch_norms and padding_share(prepared, rows, options.batch_rows) >= MUCH_PADDING
    return ragged_bytes(prepared, rows) if wanted else None


def epoch_order(
    rows: int,
    options: Training,
    epoch: int,
    lengths: NDArray[np.int64] | None = None,
    classes: NDArray[np.int64] | None = None,
) -> list[NDArray[np.int64]]:
    """The batches of an epoch, the same whenever they are asked for.

    Args:
        rows: how many training rows there are.
        options: of the training.
        epoch: which epoch, from 0.
        lengths: (R,) of the training rows, where rows of similar length are to come together.
        classes: (R,) the class of each row, where classes are to be balanced.

    Returns:
        For each batch the positions (B,) int64 of its rows among the training rows.
    """
    size = options.batch_rows
    random = np.random.default_rng(derive(options.seed, "order", epoch))
    order = random.permutation(rows) if classes is None else balanced_rows(classes, options.class_balance, random)
    if lengths is not None:
        return similar_lengths(order, lengths, size, random)
    return in_batches(order, size)
