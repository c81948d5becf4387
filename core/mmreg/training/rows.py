"""The rows that a training learns from and is judged by."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmreg.data.batches import Batches
from mmreg.data.prepare import Prepared


@dataclass(frozen=True)
class TrainingRows:
    """The rows that a training learns from and is judged by.

    Attributes:
        prepared: each modality's values, for all rows of the table.
        targets: (N, ...) as the task encodes them.
        weights: (N,) the weight of each row's loss.
        train: numbers of the training rows.
        validation: numbers of the rows that the best weights are chosen by; none to keep the last ones.
        names: what messages call rows, given their numbers; by default the numbers, from 1.
    """

    prepared: Mapping[str, Prepared]
    targets: NDArray[Any]
    weights: NDArray[np.float32]
    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    names: Callable[[NDArray[np.int64]], list[Any]] = lambda rows: (rows + 1).tolist()

    def named(self, places: NDArray[np.int64]) -> list[Any]:
        """What messages call the training rows at these places."""
        return self.names(self.train[places])

    def batches(self, rows: NDArray[np.int64], batch_size: int, **options: Any) -> Batches:
        """Batches of some rows; options as for `Batches`."""
        return Batches(self.prepared, rows, self.targets[rows], self.weights[rows], batch_size, **options)
