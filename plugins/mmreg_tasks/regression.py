"""The task of predicting one or several numbers.

Axes: B batch, N rows, K numbers a row.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mmreg import Space, TargetValues, Task
from mmreg.errors import TargetError
from mmreg.layers import at_least_float32
from mmreg_tasks import regression_metrics
from mmreg_tasks.labels import most_common
from mmreg_tasks.metrics import check_evaluation

_LOSSES: Mapping[str, Callable[..., Tensor]] = {
    "mse": nn.functional.mse_loss,
    "l1": nn.functional.l1_loss,
    "huber": nn.functional.huber_loss,
}


class Regression(Task):
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
        self._loss = loss
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
        self._learn(_numbers(values))

    def fit_column(self, values: TargetValues) -> None:
        """As `fit`; a column of numbers is one array."""
        self._learn(_column_numbers(values))

    def _learn(self, numbers: NDArray[np.float64]) -> None:
        """Learn from (N, K) numbers."""
        constant = np.flatnonzero(numbers.max(0) == numbers.min(0))
        if len(constant):
            which = "is" if numbers.shape[1] == 1 else f"has, at position {constant[0]} of its lists,"
            raise TargetError(
                f"the target column {which} constant: {_short(numbers[0, constant[0]])} in all {len(numbers)} rows; "
                "there is nothing to predict"
            )
        with np.errstate(all="ignore"):
            mean, deviation = numbers.mean(0), numbers.std(0)
        if not (np.isfinite(mean) & np.isfinite(deviation) & (deviation > 0)).all():
            raise TargetError(
                f"the target's numbers, from {_short(numbers.min())} to {_short(numbers.max())}, are too large or "
                "too small to be standardised; rescale the column"
            )
        self._set(mean, deviation)

    def encode(self, values: Sequence[Any]) -> NDArray[np.float32]:
        """The values in standardised units, (N, K) float32.

        Raises:
            TargetError: a value that is missing, infinite, no number or absurdly far from training's, or a list of
                another length than there.
        """
        return self._standardised(_numbers(values))

    def encode_column(self, values: TargetValues) -> NDArray[np.float32]:
        """As `encode`; a column of numbers is one array."""
        return self._standardised(_column_numbers(values))

    def _standardised(self, numbers: NDArray[np.float64]) -> NDArray[np.float32]:
        """Numbers (N, K) as `encode` gives them."""
        if numbers.shape[1] != self.num_outputs:
            raise TargetError(
                f"the target column holds {numbers.shape[1]} numbers a row, but training had {self.num_outputs}"
            )
        with np.errstate(over="ignore"):
            encoded = ((numbers - self._mean) / self._deviation).astype(np.float32)
        beyond = ~np.isfinite(encoded).all(1)
        if beyond.any():
            raise TargetError(
                f"{beyond.sum()} of {len(numbers)} target values, such as {_short(numbers[beyond].ravel()[0])}, "
                "lie too far from those of training to be computed with; leave these rows out"
            )
        return encoded

    def row_weights(self, targets: NDArray[Any]) -> NDArray[np.float32]:
        """1 for each row, (N,)."""
        return np.ones(len(targets), np.float32)

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

    def _in_units(self, values: Tensor) -> Tensor:
        values = values.detach().cpu().double()
        return values * torch.from_numpy(self._deviation) + torch.from_numpy(self._mean)

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
        mae, rmse, r2 = (_short(result[name]) for name in ("mae", "rmse", "r2"))
        text, baseline = f"MAE: {mae} (RMSE {rmse}, R2 {r2}, {rows} rows)", result.get("baseline")
        if baseline is None:
            return text
        answer = baseline["prediction"]
        says = "the means" if isinstance(answer, list) else f"the mean, {_short(answer)}"
        return f"{text}; always saying {says}: MAE {_short(baseline['mae'])}, RMSE {_short(baseline['rmse'])}"

    def state(self) -> dict[str, Any]:
        """The mean and the standard deviation, K numbers each."""
        return {"mean": self._mean.tolist(), "deviation": self._deviation.tolist()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take over what `state` gave."""
        self._set(np.asarray(state["mean"], np.float64), np.asarray(state["deviation"], np.float64))


def _numbers(values: Sequence[Any]) -> NDArray[np.float64]:
    """The cells as (N, K) numbers."""
    if not len(values):
        raise TargetError("the target column has no rows")
    # A column of floats needs no look at each cell.
    if set(map(type, values)) == {float}:
        return _finite(np.array(values)[:, None])
    return _finite(_rectangle(values, np.ones(len(values), np.int64)))


def _column_numbers(values: TargetValues) -> NDArray[np.float64]:
    """A column's cells as (N, K) numbers."""
    numbers = values.numbers()
    told = None if numbers is not None else values.distinct()
    if not len(values) or (numbers is None and told is None):
        return _numbers(list(values))
    if numbers is not None:
        return _finite(numbers if numbers.ndim == 2 else numbers[:, None])
    assert told is not None
    distinct, codes = told
    return _finite(_rectangle(distinct, np.bincount(codes, minlength=len(distinct)))[codes])


def _finite(numbers: NDArray[np.float64]) -> NDArray[np.float64]:
    """The same numbers (N, K), none of which is missing or infinite."""
    bad = int((~np.isfinite(numbers)).any(1).sum())
    if bad:
        missing = int(np.isnan(numbers).any(1).sum())
        raise TargetError(
            f"{bad} of {len(numbers)} target values are not finite ({missing} missing: null, empty or NaN; "
            f"{bad - missing} infinite); give every row a finite number, or leave these rows out"
        )
    return numbers


def _rectangle(values: Sequence[Any], rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Cells that so many rows have as (N, K) numbers."""
    cells = [
        [_number(item) for item in value] if isinstance(value, list | tuple | np.ndarray) else [_number(value)]
        for value in values
    ]
    strange = [at for at, cell in enumerate(cells) if None in cell]
    if strange:
        raise TargetError(
            f"{rows[strange].sum()} of {rows.sum()} target values are no numbers: "
            f"{most_common([values[at] for at in strange], rows[strange].tolist())}; "
            "regression needs numbers (for labels use task: classification)"
        )
    # A missing list is missing in each of its numbers.
    width = max(map(len, cells))
    cells = [cell * width if len(cell) == 1 and math.isnan(cell[0] or 0) else cell for cell in cells]
    lengths: Counter[int] = Counter()
    for cell, count in zip(cells, rows.tolist(), strict=True):
        lengths[len(cell)] += count
    if len(lengths) > 1 or 0 in lengths:
        found = ", ".join(f"{length} ({count} rows)" for length, count in sorted(lengths.items()))
        raise TargetError(f"each row of the target column needs the same number of numbers, found {found}")
    return np.array(cells, np.float64)


def _number(value: Any) -> float | None:
    """The number in a cell, NaN if the cell is empty, None if it holds something else."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return math.nan
    if isinstance(value, bool | np.bool_):
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        return None
    except OverflowError:  # an integer beyond every float
        return math.inf


def _short(number: float) -> str:
    """Three significant digits, but no exponent for what reads well without."""
    return f"{number:,.0f}" if 1000 <= abs(number) < 1e9 else f"{number:.3g}"
