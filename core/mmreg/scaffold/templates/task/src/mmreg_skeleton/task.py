"""A task: what the target column holds, the loss, the metrics, and how predictions are written.

Axes: B batch, N rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmreg import Space, Task
from mmreg.errors import OptionError, TargetError
from mmreg.layers import at_least_float32
from mmreg.messages import plural


class SkeletonTask(Task):
    """Numbers of very different sizes and of either sign, such as amounts of money, on a logarithmic scale.

    Within the model a target t is asinh(t / s), where s is the training rows' median size: linear for numbers far
    below s, logarithmic far above. The loss is the squared error on this scale. Predictions are in the column's units.
    """

    version: ClassVar[int] = 1  # raise it whenever `state` would give something else
    space: ClassVar[Space] = "values"
    main_metric: ClassVar[str] = "median_absolute_error"
    metrics: ClassVar[Mapping[str, bool]] = {"median_absolute_error": False, "mean_absolute_error": False}
    num_outputs = 1

    def __init__(self) -> None:
        self._scale = 1.0

    def fit(self, values: Sequence[Any]) -> None:
        """Learn the median size of the numbers that are not zero.

        Raises:
            TargetError: there are no rows, or one holds no finite number.
        """
        sizes = np.abs(_numbers(values))
        if not len(sizes):
            raise TargetError("the target column has no rows")
        self._scale = float(np.median(sizes[sizes > 0])) if sizes.any() else 1.0

    def encode(self, values: Sequence[Any]) -> NDArray[np.float32]:
        """The numbers on the model's scale, (N, 1).

        Raises:
            TargetError: a row holds no finite number.
        """
        return np.arcsinh(_numbers(values) / self._scale).astype(np.float32)[:, None]

    def row_weights(self, targets: NDArray[Any]) -> NDArray[np.float32]:
        """1 for each row, (N,)."""
        return np.ones(len(targets), np.float32)

    def loss(self, scores: Tensor, targets: Tensor) -> Tensor:
        """The squared error of (B, 1) scores and targets, (B,)."""
        return (self.scores(scores) - targets).square().squeeze(1)

    def scores(self, logits: Tensor) -> Tensor:
        """The logits as they are, in float32 at least."""
        return at_least_float32(logits)

    def prior(self, targets: NDArray[Any], weights: NDArray[np.float32]) -> Tensor:
        """The mean of the training rows' targets, (1,)."""
        return torch.from_numpy(np.average(targets, axis=0, weights=weights)).float()

    def evaluate(self, scores: Tensor, targets: Tensor, metrics: Sequence[str] = ()) -> dict[str, Any]:
        """The median and the mean of the absolute errors of N rows, in the column's units.

        Raises:
            OptionError: a metric that the task does not know.
        """
        if unknown := sorted(set(metrics) - set(self.metrics)):
            raise OptionError(f"skeleton knows no metric {', '.join(unknown)} (there are {', '.join(self.metrics)})")
        errors = np.abs(self._in_units(scores) - self._in_units(targets))
        return {"median_absolute_error": float(np.median(errors)), "mean_absolute_error": float(errors.mean())}

    def predictions(self, scores: Tensor) -> dict[str, list[Any]]:
        """The numbers in the column's units, as "value"."""
        return {"value": self._in_units(scores).tolist()}

    def headline(self, result: Mapping[str, Any], rows: int) -> str:
        """The median error in one line."""
        return f"Median absolute error: {result['median_absolute_error']:.3g} ({plural(rows, 'row')})"

    def state(self) -> dict[str, Any]:
        """The scale."""
        return {"scale": self._scale}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take over what `state` gave."""
        self._scale = state["scale"]

    def _in_units(self, values: Tensor) -> NDArray[np.float64]:
        numbers: NDArray[np.float64] = values.detach().cpu().double().numpy()[:, 0]
        return np.sinh(numbers) * self._scale


def _numbers(values: Sequence[Any]) -> NDArray[np.float64]:
    """The cells as numbers (N,)."""
    try:
        numbers = np.array([float(value) for value in values], np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise TargetError(f"the target column must hold numbers: {error}") from error
    bad = np.flatnonzero(~np.isfinite(numbers))
    if len(bad):
        raise TargetError(f"{len(bad)} target values are not finite, such as {values[bad[0]]!r}")
    return numbers
