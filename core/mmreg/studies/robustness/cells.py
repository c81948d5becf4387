"""One cell of a matrix of missing rates in training x in use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["fusion", "baseline", "single"]
"""An operator; the best modality of those that a row has; one modality alone."""


@dataclass(frozen=True)
class Cell:
    """The figures of one operator, or of what it is compared with, at one rate in training and one in use.

    Attributes:
        name: the operator's or the modality's.
        kind: what it is.
        training: the missing rate in training.
        use: that in use.
        seeds: how many seeds were measured.
        mean: the metric's mean over seeds.
        deviation: its standard deviation over seeds (of a sample); None with one seed.
        difference: of an operator, the mean less that of the best present modality, over the seeds that both have.
        standard_error: that of the difference, by the bootstrap over test rows.
    """

    name: str
    kind: Kind
    training: float
    use: float
    seeds: int
    mean: float
    deviation: float | None
    difference: float | None = None
    standard_error: float | None = None

    def is_below(self, more_is_better: bool) -> bool:
        """Whether it falls below the best present modality by more than a standard error."""
        if self.difference is None or self.standard_error is None:
            return False
        return (self.difference if more_is_better else -self.difference) < -self.standard_error
