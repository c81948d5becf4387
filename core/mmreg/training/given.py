"""Features that a training is given instead of values, as their encoders stay as they are.

Axes: N rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mmreg.data.features import FeatureValues
from mmreg.data.prepared import Prepared
from mmreg.model.seeding import derive


@dataclass(frozen=True)
class Copies:
    """Several augmented versions of the training rows, of which each epoch draws one a row.

    Attributes:
        values: all versions: first those of the first copy, then those of the second, and so on.
        ranks: (N,) int64, which value of a copy each row has; -1 where it has none. Where rows have several, those of
            one row after those of the other.
        each: how many values a copy has.
        count: how many copies there are.
        seed: of the draws.
    """

    values: FeatureValues
    ranks: NDArray[np.int64]
    each: int
    count: int
    seed: int

    def index(self, epoch: int) -> NDArray[np.int64]:
        """As `ranks`, which of all the values each row has in an epoch, whenever it is asked for."""
        drawn = np.random.default_rng(derive(self.seed, "copies", epoch)).integers(self.count, size=len(self.ranks))
        return np.where(self.ranks < 0, -1, drawn * self.each + self.ranks)


@dataclass(frozen=True)
class Given:
    """The features that there are before a training begins.

    Attributes:
        plain: by modality, of all rows as they are in use.
        copies: of some of these the augmented versions that training takes instead.
    """

    plain: Mapping[str, FeatureValues] = field(default_factory=dict)
    copies: Mapping[str, Copies] = field(default_factory=dict)

    def in_place(self, prepared: Mapping[str, Prepared]) -> dict[str, Prepared]:
        """Prepared values in their order, those with features by these."""
        return {**prepared, **self.plain}

    def in_epoch(self, prepared: Mapping[str, Prepared], epoch: int) -> dict[str, Prepared]:
        """The same as training takes them in an epoch."""
        drawn = {
            name: copies.values.grouped(copies.index(epoch), copies.values.bounds)
            for name, copies in self.copies.items()
        }
        return {**self.in_place(prepared), **drawn}
