"""Mean and deviation of numbers side by side, learned from training rows in one pass; missing ones are NaN.

Axes: N rows or steps, C numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class Normalization:
    """Brings each number to a mean of 0 and a deviation of 1.

    Args:
        mean: (C,).
        deviation: (C,), above 0.
    """

    def __init__(self, mean: list[float], deviation: list[float]) -> None:
        self._mean, self._deviation = torch.tensor(mean), torch.tensor(deviation)

    @classmethod
    def fit(cls, arrays: Iterable[NDArray[Any]], size: int) -> Normalization:
        """That of the numbers that are there; one that never differs is only centred.

        Args:
            arrays: (N, C) each, or (C,).
            size: C.
        """
        count, mean, squares = np.zeros(size), np.zeros(size), np.zeros(size)
        for array in arrays:  # means of parts, so that no large number swallows small ones
            rows = array.reshape(-1, size).astype(np.float64)
            there = ~np.isnan(rows)
            own = there.sum(0)
            total = np.maximum(count + own, 1)
            centre = np.where(there, rows, 0).sum(0) / np.maximum(own, 1)
            squares += np.where(there, (rows - centre) ** 2, 0).sum(0) + (centre - mean) ** 2 * count * own / total
            mean += (centre - mean) * own / total
            count += own
        deviation = np.sqrt(squares / np.maximum(count, 1))
        small = np.finfo(np.float32).eps * np.abs(mean)
        return cls(mean.tolist(), np.where(deviation > small, deviation, 1.0).tolist())

    @classmethod
    def of_state(cls, state: Mapping[str, Any]) -> Normalization | None:
        """The one that a modality's state holds; None if it holds none."""
        return cls(list(state["mean"]), list(state["deviation"])) if "mean" in state else None

    def state(self) -> dict[str, Any]:
        """What `of_state` reads."""
        return {"mean": self._mean.tolist(), "deviation": self._deviation.tolist()}

    def __call__(self, values: Tensor) -> Tensor:
        """(..., C), normalised."""
        self._mean, self._deviation = self._mean.to(values.device), self._deviation.to(values.device)
        return (values - self._mean) / self._deviation
