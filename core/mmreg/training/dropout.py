"""Leaving modalities out at random in training, so that a model learns to do without any of them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from mmreg.data.prepared import Prepared
from mmreg.model.seeding import derive
from mmreg.recipe.training_form import Training


def dropped_modalities(
    prepared: Mapping[str, Prepared], rows: NDArray[np.int64], options: Training, epoch: int
) -> dict[str, NDArray[np.bool_]] | None:
    """For each modality, which of these rows (R,) lose it in an epoch; None if none does.

    Each modality that a row has is dropped with its own probability; a row that would lose all keeps one of them,
    chosen at random.
    """
    if not options.modality_dropout:
        return None
    names = list(prepared)
    given = options.modality_dropout
    shares = np.array([given.get(name, 0.0) if isinstance(given, dict) else given for name in names])
    present = np.stack([prepared[name].present[rows] for name in names], 1)
    random = np.random.default_rng(derive(options.seed, "modality_dropout", epoch))
    dropped = (random.random(present.shape) < shares) & present
    keep = np.where(present, random.random(present.shape), -1.0).argmax(1)
    emptied = (dropped == present).all(1)
    dropped[emptied, keep[emptied]] = False
    return {name: dropped[:, index] for index, name in enumerate(names)}
