"""The task of predicting one or several numbers.

Axes: B batch, N rows, K numbers a row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mmreg import Space
from mmreg.layers import at_least_float32
from mmreg.messages import plural
from mmreg_tasks import regression_metrics
from mmreg_tasks.metrics import check_evaluation
from mmreg_tasks.numbers import short
from mmreg_tasks.standardised import StandardisedTask

_LOSSES: Mapping[str, Callable[..., Tensor]] = {
    "mse": nn.functional.mse_loss,
    "l1": nn.functional.l1_loss,
    "huber": nn.functional.huber_loss,
}


class Regression(StandardisedTask):
    """One number a row, or a list of K numbers.

    Within the model targets and scores are in standardised units: less the training rows' mean, divided by their
    standard deviation. `evaluate` and `predictions` give the column's own units. Text counts as a number if it
    reads as one ("3.5").

    Args:
        loss: "mse" for the squared error, "l1" for the absolute one, "huber" for the squared error up to one
            standard deviation and the absolute one beyond.

    Example:
        >>> task = Regression()
        >>> task.fit([1, 3])
        >>> task.encode([1, 2, 3]).ravel().tolist()
        [-1.0, 0.0, 1.0]
    """

    space: ClassVar[Space] = "values"
    main_metric: ClassVar[str] = "mae"
    metrics: ClassVar[Mapping[str, bool]] = regression_metrics.METRICS

    def __init__(self, *, loss: Literal["mse", "l1", "huber"] = "mse") -> None:
        super().__init__()
        self._loss = loss

    def loss(self, scores: Tensor, targets: Tensor) -> Tensor:
        """The mean over the K numbers, (B,), of the loss of scores and targets, (B, K) in standardised units."""
        scores = at_least_float32(scores)
        return _LOSSES[self._loss](scores, targets.to(scores.dtype), reduction="none").mean(1)

    def scores(self, logits: Tensor) -> Tensor:
        """The values in standardised units, (B, K): the logits as they are."""
        return at_least_float32(logits)

    def prior(self, targets: NDArray[Any], weights: NDArray[np.float32]) -> Tensor:
        """The targets' weighted mean, (K,), or with the loss "l1" their weighted median, in standardised units."""
        if not weights.any():
            weights = np.ones_like(weights)
        wide = weights.astype(np.float64)
        if self._loss != "l1":
            return torch.from_numpy(np.average(targets, axis=0, weights=wide)).float()
        order = np.argsort(targets, axis=0)
        below = np.cumsum(wide[order], axis=0)
        middle = (below < below[-1] / 2).sum(0)
        return torch.from_numpy(np.take_along_axis(targets, order, 0)[middle, np.arange(targets.shape[1])]).float()

    def evaluate(self, scores: Tensor, targets: Tensor, metrics: Sequence[str] = ()) -> dict[str, Any]:
        """Metrics of N rows, in the target's units.

        Always mae, rmse and r2, of several numbers a row their means, and then each number's as "per_output"; the
        same as "baseline" for always saying the mean of the training rows; further ones by name, as `metrics` lists
        them.

        Args:
            scores: (N, K) in standardised units.
            targets: (N, K) in standardised units.
            metrics: names of further ones.

        Raises:
            OptionError: a metric that is not known.
            TargetError: there are no rows.
        """
        check_evaluation(len(targets), metrics, self.metrics)
        predicted, actual = self._in_units(scores), self._in_units(targets)
        mean = torch.from_numpy(self._mean)
        baseline = regression_metrics.summary(mean.expand_as(actual), actual)
        baseline = {"prediction": mean.tolist() if len(mean) > 1 else mean.item(), **baseline}
        baseline.pop("per_output", None)
        result = regression_metrics.summary(predicted, actual) | regression_metrics.further(metrics, predicted, actual)
        return result | {"baseline": baseline}

    def predictions(self, scores: Tensor) -> dict[str, list[Any]]:
        """The values in the target's units: "value", or with several numbers a row "value_0", "value_1", ..."""
        columns = self._in_units(scores).T.tolist()
        if self.num_outputs == 1:
            return {"value": columns[0]}
        return {f"value_{k}": column for k, column in enumerate(columns)}

    def headline(self, result: Mapping[str, Any], rows: int) -> str:
        """The three metrics to three digits, and the errors of the baseline."""
        mae, rmse = (short(result[name]) for name in ("mae", "rmse"))
        r2 = "undefined" if result["r2"] is None else short(result["r2"])
        text, baseline = f"MAE: {mae} (RMSE {rmse}, R2 {r2}, {plural(rows, 'row')})", result.get("baseline")
        if baseline is None:
            return text
        answer = baseline["prediction"]
        says = "the means" if isinstance(answer, list) else f"the mean, {short(answer)}"
        return f"{text}; always saying {says}: MAE {short(baseline['mae'])}, RMSE {short(baseline['rmse'])}"
