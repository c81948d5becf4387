"""One of several targets: how it is encoded beside the others, and where it stands among their scores.

Axes: B batch, N rows, K the scores of all targets, k those of one, W the encoded numbers of all targets.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmreg.contract.task import OneTarget, Task
from mmreg.errors import TargetError

EXACT = 2**24
"""Up to here float32 holds every whole number."""
DTYPES = frozenset({"bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64"})
"""What tasks encode."""
CHUNK = 4_096
"""Rows whose loss is computed at a time, where they are not those of a batch."""


@dataclass(frozen=True)
class Encoding:
    """How one target stands among the encoded ones.

    Attributes:
        dtype: of what its own task encodes.
        shape: of that, for one row.
        filler: an encoded value that stands where a row has none, so that its loss is a number.
        prior_loss: the mean loss that the training rows' prior comes to on them.
        first: the first of its columns; that of its weights comes after its last one.
    """

    dtype: str
    shape: tuple[int, ...]
    filler: tuple[float, ...]
    prior_loss: float
    first: int = 0

    @property
    def is_sound(self) -> bool:
        """Whether it may be one that a training has written."""
        sizes = all(isinstance(size, int) and size > 0 for size in self.shape)
        numbers = all(isinstance(number, int | float) for number in (*self.filler, self.prior_loss))
        return (
            sizes
            and numbers
            and self.dtype in DTYPES
            and len(self.filler) == math.prod(self.shape)
            and 0 < self.prior_loss < math.inf
        )

    @property
    def weight(self) -> int:
        """The column of its weights."""
        return self.first + len(self.filler)

    def own(self, targets: Tensor) -> Tensor:
        """As its own task encodes it, of rows (N, W)."""
        numbers = targets[:, self.first : self.weight].reshape(-1, *self.shape)
        return numbers.to(getattr(torch, self.dtype))


class JoinedTarget(OneTarget):
    """One of several targets, and where it stands among scores and encoded targets.

    Args:
        task: the target's own.
        scores: its columns among those of scores.
        encoding: how it is encoded.
    """

    def __init__(self, task: Task, scores: slice, encoding: Encoding) -> None:
        super().__init__(task)
        self.columns, self.encoding = scores, encoding

    def scores(self, scores: Tensor) -> Tensor:
        """Its own ones (..., k) of the scores (..., K)."""
        return scores[..., self.columns]

    def has(self, targets: Tensor) -> Tensor:
        """Which rows have it, (N,) bool, of encoded targets (N, W)."""
        return ~targets[:, self.encoding.weight].isnan()

    def own(self, targets: Tensor) -> Tensor:
        """Its own encoded targets, of those of N rows that have it."""
        return self.encoding.own(targets[self.has(targets)])

    def known(self, scores: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Its own scores and encoded targets, of those of N rows that have it."""
        return self.scores(scores)[self.has(targets).to(scores.device)], self.own(targets)


def slices(sizes: Iterable[int]) -> list[slice]:
    """The places of parts with these sizes, one after the other."""
    ends = list(itertools.accumulate(sizes, initial=0))
    return [slice(*pair) for pair in itertools.pairwise(ends)]


def encoding_of(task: Task, own: NDArray[Any], first: int) -> Encoding:
    """How a fitted task's target is encoded, by some of the training rows' own."""
    if np.issubdtype(own.dtype, np.integer) and np.abs(own).max() >= EXACT:
        raise TargetError(f"its task has numbers from {EXACT:,} on, which several targets in one model cannot have")
    weights = np.ones(len(own), np.float32)
    targets = torch.from_numpy(own)
    prior = task.prior(own, weights)
    loss = mean_loss(task, prior.expand(len(own), -1), targets)
    filler = tuple(float(number) for number in own[0].reshape(-1))
    return Encoding(own.dtype.name, own.shape[1:], filler, loss if 0 < loss < math.inf else 1.0, first)


@torch.no_grad()
def mean_loss(task: Task, scores: Tensor, targets: Tensor) -> float:
    """The mean of a task's own loss over rows."""
    targets = targets.to(scores.device)
    parts = ((scores[at : at + CHUNK], targets[at : at + CHUNK]) for at in range(0, len(targets), CHUNK))
    return math.fsum(float(task.loss(*part).double().sum()) for part in parts) / len(targets)
