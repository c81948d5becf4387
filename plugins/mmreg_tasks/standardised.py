"""What tasks of numbers share: reading them, and standardised units within the model.

Axes: N rows, K numbers a row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmreg import TargetValues, Task
from mmreg.errors import TargetError
from mmreg.messages import plural
from mmreg_tasks.numbers import numbers_of, numbers_of_column, short

FINEST = 1e-3
"""Of the target's deviation, what its numbers may be rounded by."""


class StandardisedTask(Task):
    """The base of the tasks of numbers.

    Within the model targets and scores are in standardised units: less the training rows' mean, divided by their
    standard deviation. `evaluate` and `predictions` give the column's own units.
    """

    def __init__(self) -> None:
        self._set(np.zeros(0), np.ones(0))

    def _set(self, mean: NDArray[np.float64], deviation: NDArray[np.float64]) -> None:
        self._mean = mean
        self._deviation = deviation
        self.num_outputs = len(mean)

    def fit(self, values: Sequence[Any]) -> None:
        """Learn K, the mean and the standard deviation.

        Raises:
            TargetError: a value that is missing, infinite or no number, lists of differing lengths, or numbers that
                are all the same.
        """
        self._learn(numbers_of(values))

    def fit_column(self, values: TargetValues) -> None:
        """As `fit`; a column of numbers is one array."""
        self._learn(numbers_of_column(values))

    def _learn(self, numbers: NDArray[np.float64]) -> None:
        """Learn from (N, K) numbers."""
        constant = np.flatnonzero(numbers.max(0) == numbers.min(0))
        if len(constant):
            which = "is" if numbers.shape[1] == 1 else f"has, at position {constant[0]} of its lists,"
            raise TargetError(
                f"the target column {which} constant: {short(numbers[0, constant[0]])} in "
                f"{'all ' if len(numbers) > 1 else ''}{plural(len(numbers), 'row')}; there is nothing to predict"
            )
        with np.errstate(all="ignore"):
            mean, deviation = numbers.mean(0), numbers.std(0)
        if not (np.isfinite(mean) & np.isfinite(deviation) & (deviation > 0)).all():
            raise TargetError(
                f"the target's numbers, from {short(numbers.min())} to {short(numbers.max())}, are too large or "
                "too small to be standardised; rescale the column"
            )
        if (np.spacing(np.abs(numbers).max(0)) > deviation * FINEST).any():
            raise TargetError(
                f"the target's numbers, from {short(numbers.min())} to {short(numbers.max())}, are too close together "
                "for their size: in 64 bits they are rounded; take off what they have in common, such as the least one"
            )
        self._set(mean, deviation)

    def encode(self, values: Sequence[Any]) -> NDArray[np.float32]:
        """The values in standardised units, (N, K) float32.

        Raises:
            TargetError: a value that is missing, infinite, no number or absurdly far from training's, or a list of
                another length than there.
        """
        return self._standardised(numbers_of(values))

    def encode_column(self, values: TargetValues) -> NDArray[np.float32]:
        """As `encode`; a column of numbers is one array."""
        return self._standardised(numbers_of_column(values))

    def _standardised(self, numbers: NDArray[np.float64]) -> NDArray[np.float32]:
        """Numbers (N, K) as `encode` gives them."""
        if numbers.shape[1] != len(self._mean):
            raise TargetError(
                f"the target column holds {numbers.shape[1]} numbers a row, but training had {len(self._mean)}"
            )
        with np.errstate(over="ignore"):
            encoded = ((numbers - self._mean) / self._deviation).astype(np.float32)
        beyond = ~np.isfinite(encoded).all(1)
        if beyond.any():
            raise TargetError(
                f"{beyond.sum()} of {len(numbers)} target values, such as {short(numbers[beyond].ravel()[0])}, "
                "lie too far from those of training to be computed with; leave these rows out"
            )
        return encoded

    def row_weights(self, targets: NDArray[Any]) -> NDArray[np.float32]:
        """1 for each row, (N,)."""
        return np.ones(len(targets), np.float32)

    def _in_units(self, values: Tensor) -> Tensor:
        values = values.detach().cpu().double()
        return values * torch.from_numpy(self._deviation) + torch.from_numpy(self._mean)

    def state(self) -> dict[str, Any]:
        """The mean and the standard deviation, K numbers each."""
        return {"mean": self._mean.tolist(), "deviation": self._deviation.tolist()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take over what `state` gave."""
        self._set(np.asarray(state["mean"], np.float64), np.asarray(state["deviation"], np.float64))
