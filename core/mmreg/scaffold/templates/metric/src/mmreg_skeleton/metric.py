"""A metric: one number that says how good the predictions of many rows are.

Axes: N rows, K classes.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from annotated_types import Ge
from torch import Tensor

from mmreg import Metric, Space


class SkeletonMetric(Metric):
    """The share of rows whose class is among the most probable ones (top-k accuracy), from 0 to 1.

    Args:
        top: how many classes are the most probable ones; of no more classes than these the metric is 1.
    """

    spaces: ClassVar[frozenset[Space]] = frozenset({"log_probabilities"})
    more_is_better: ClassVar[bool] = True

    def __init__(self, *, num_outputs: int, top: Annotated[int, Ge(1)] = 2) -> None:
        self.top = min(top, num_outputs)

    def compute(self, scores: Tensor, targets: Tensor) -> float:
        """Measure N rows by their log-probabilities (N, K) and classes (N,) int64."""
        most_probable = scores.topk(self.top, dim=1).indices
        return float((most_probable == targets[:, None]).any(1).double().mean())
