"""Which row each value of a flat batch belongs to, where a row has any number of them.

Axes: n rows that have a modality, N rows of a table, V values.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class Segments:
    """The values of each of n rows, one row's after the other's.

    Attributes:
        rows: (V,) int64, the place of each value's row among the n, ascending; on the device of the values.
        counts: (n,) int64, how many values each row has, at least 1; on the same device.
        longest: the greatest of these, known on the host so that nobody has to wait for a device.
    """

    rows: Tensor
    counts: Tensor
    longest: int

    @classmethod
    def of(cls, counts: NDArray[np.int64]) -> Segments:
        """Those of rows with so many values (n,), in CPU memory.

        Example:
            >>> Segments.of(np.array([2, 1])).rows
            tensor([0, 0, 1])
        """
        return cls(
            torch.from_numpy(np.repeat(np.arange(len(counts)), counts)), torch.from_numpy(counts), longest(counts)
        )

    def map(self, function: Callable[[Tensor], Tensor]) -> Segments:
        """The same with a function applied to both tensors, such as a copy to a device."""
        return Segments(function(self.rows), function(self.counts), self.longest)

    @property
    def places(self) -> Tensor:
        """(V,) int64, each value's place among those of its row, from 0."""
        starts = self.counts.cumsum(0) - self.counts
        return torch.arange(len(self.rows), device=self.rows.device) - starts.index_select(0, self.rows)


def longest(counts: NDArray[np.int64]) -> int:
    """The greatest count of values a row."""
    return int(counts.max(initial=0))


def ranges(bounds: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """All numbers in the ranges of some rows, one range after the other.

    Args:
        bounds: (N + 1,) where the range of each row of a table begins, and the last one ends.
        rows: (n,) which of them.

    Example:
        >>> ranges(np.array([0, 2, 2, 5]), np.array([2, 0])).tolist()
        [2, 3, 4, 0, 1]
    """
    counts = bounds[rows + 1] - bounds[rows]
    firsts = np.cumsum(counts) - counts
    within = np.arange(int(counts.sum())) - np.repeat(firsts, counts)
    found: NDArray[np.int64] = np.repeat(bounds[rows], counts) + within
    return found


def greatest(values: NDArray[np.int64], bounds: NDArray[np.int64]) -> NDArray[np.int64]:
    """The greatest value in each of N ranges of (F,), none of which is negative; 0 for an empty one."""
    result: NDArray[np.int64] = np.maximum.reduceat(np.append(values, 0), bounds[:-1])
    result[np.diff(bounds) == 0] = 0
    return result
