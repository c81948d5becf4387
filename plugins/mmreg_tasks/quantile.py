"""The task of predicting quantiles of a number, such as a range that it lies in nine times out of ten.

Axes: B batch, N rows, K quantiles.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from annotated_types import Gt, Lt, MinLen
from numpy.typing import NDArray
from torch import Tensor

from mmreg import Space, TargetValues
from mmreg.errors import OptionError, TargetError
from mmreg.layers import at_least_float32
from mmreg.messages import plural
from mmreg_tasks import quantile_metrics
from mmreg_tasks.metrics import check_evaluation
from mmreg_tasks.numbers import short
from mmreg_tasks.standardised import StandardisedTask

MEDIAN = 0.5


class Quantile(StandardisedTask):
    """K quantiles of one number a row; the loss is the pinball loss (Koenker and Bassett 1978).

    The quantile of q is the number that the target is below with probability q, and what minimises the mean of
    q max(y - s, 0) + (1 - q) max(s - y, 0). Within the model numbers are in standardised units, as for regression.

    Quantiles never cross: what a head gives is sorted (Chernozhukov, Fernandez-Val and Galichon 2010), which brings no
    quantile further from its true value and never makes the loss greater. Sums of positive steps would do as well, but
    could not be told from the numbers of a head, and their scale would have to be learned first.

    Args:
        quantiles: The quantiles, ascending, each between 0 and 1. The first and the last are the bounds of the interval
            whose coverage and width are told.

    Raises:
        OptionError: the quantiles are not ascending.

    Example:
        >>> task = Quantile(quantiles=(0.1, 0.9))
        >>> task.fit([1, 3])
        >>> task.encode([1, 2]).tolist()
        [[-1.0, -1.0], [0.0, 0.0]]
    """

    space: ClassVar[Space] = "quantiles"
    main_metric: ClassVar[str] = "pinball"
    metrics: ClassVar[Mapping[str, bool]] = quantile_metrics.METRICS

    def __init__(
        self, *, quantiles: Annotated[tuple[Annotated[float, Gt(0), Lt(1)], ...], MinLen(1)] = (0.1, 0.5, 0.9)
    ) -> None:
        if any(later <= earlier for earlier, later in pairwise(quantiles)):
            raise OptionError(
                f"quantiles must ascend, each once, found {', '.join(f'{q:g}' for q in quantiles)}: "
                f"write {', '.join(f'{q:g}' for q in sorted(set(quantiles)))}"
            )
        self.quantiles = tuple(quantiles)
        self._constants = np.zeros(len(quantiles))
        super().__init__()

    def _set(self, mean: NDArray[np.float64], deviation: NDArray[np.float64]) -> None:
        super()._set(mean, deviation)
        self.num_outputs = len(self.quantiles)

    def _learn(self, numbers: NDArray[np.float64]) -> None:
        """Learn the units, and the quantiles of all training rows, from (N, 1) numbers."""
        if numbers.shape[1] != 1:
            raise TargetError(
                f"the target column holds {numbers.shape[1]} numbers a row; quantiles are of one (for several use "
                "task: regression)"
            )
        super()._learn(numbers)
        self._constants = np.quantile(numbers[:, 0], self.quantiles)

    def encode(self, values: Sequence[Any]) -> NDArray[np.float32]:
        """The values in standardised units, once for each quantile, (N, K) float32; raises as regression does."""
        return self._repeated(super().encode(values))

    def encode_column(self, values: TargetValues) -> NDArray[np.float32]:
        """As `encode`; a column of numbers is one array."""
        return self._repeated(super().encode_column(values))

    def _repeated(self, encoded: NDArray[np.float32]) -> NDArray[np.float32]:
        return encoded.repeat(self.num_outputs, axis=1)

    def loss(self, scores: Tensor, targets: Tensor) -> Tensor:
        """The mean over the K quantiles, (B,), of the pinball loss of scores and targets, (B, K)."""
        return quantile_metrics.pinball(self.scores(scores), targets, self.quantiles).mean(1)

    def scores(self, logits: Tensor) -> Tensor:
        """The quantiles in standardised units, (B, K), ascending."""
        return at_least_float32(logits).sort(-1).values

    def prior(self, targets: NDArray[Any], weights: NDArray[np.float32]) -> Tensor:
        """The weighted quantiles of the targets, (K,), in standardised units."""
        if not weights.any():
            weights = np.ones_like(weights)
        order = np.argsort(targets[:, 0])
        below = np.cumsum(weights[order].astype(np.float64))
        at = np.searchsorted(below, np.array(self.quantiles) * below[-1]).clip(max=len(order) - 1)
        return torch.from_numpy(targets[order[at], 0]).float()

    def evaluate(self, scores: Tensor, targets: Tensor, metrics: Sequence[str] = ()) -> dict[str, Any]:
        """Metrics of N rows, in the target's units.

        Always pinball, the mean loss of all quantiles; mae, the mean absolute error of the median, where it is among
        the quantiles; of two quantiles or more coverage, the share of rows within the outer ones, and width, the mean
        distance of these; "per_quantile" with each one's pinball loss and the share of rows below it; and as "baseline"
        always saying the quantiles of the training rows. Neither more coverage nor less width is better by itself,
        so these choose no weights.

        Args:
            scores: (N, K) in standardised units.
            targets: (N, K) in standardised units.
            metrics: names of further ones.

        Raises:
            OptionError: a metric that is not known, or mae without the median.
            TargetError: there are no rows.
        """
        check_evaluation(len(targets), metrics, self.metrics)
        if "mae" in metrics and MEDIAN not in self.quantiles:
            raise OptionError("mae is the error of the median: name 0.5 among the quantiles")
        predicted, actual = self._in_units(scores), self._in_units(targets)
        constants = torch.from_numpy(self._constants)
        baseline = quantile_metrics.summary(constants.expand_as(actual), actual, self.quantiles)
        baseline.pop("per_quantile")
        baseline.pop("intervals", None)
        result = quantile_metrics.summary(predicted, actual, self.quantiles)
        return result | {"baseline": {"prediction": ", ".join(map(short, self._constants)), **baseline}}

    def predictions(self, scores: Tensor) -> dict[str, list[Any]]:
        """Each quantile in the target's units, such as "q0.1"."""
        columns = self._in_units(scores).T.tolist()
        return {f"q{q}": column for q, column in zip(self.quantiles, columns, strict=True)}

    def headline(self, result: Mapping[str, Any], rows: int) -> str:
        """The pinball loss, the outer interval's coverage and width, and the loss of the baseline."""
        text = f"Pinball loss: {short(result['pinball'])} ({plural(rows, 'row')})"
        if "coverage" in result:
            low, high = self.quantiles[0], self.quantiles[-1]
            text += (
                f"; {result['coverage']:.0%} of them between q{low} and q{high} (expected {high - low:.0%}), "
                f"which are {short(result['width'])} apart"
            )
        baseline = result.get("baseline")
        if baseline is None:
            return text
        return f"{text}; always saying the training rows' quantiles: {short(baseline['pinball'])}"

    def state(self) -> dict[str, Any]:
        """The mean, the standard deviation, and the quantiles of the training rows."""
        return {**super().state(), "constants": self._constants.tolist()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take over what `state` gave."""
        super().load_state(state)
        self._constants = np.asarray(state["constants"], np.float64)
