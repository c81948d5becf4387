"""Metrics of predicted numbers; of several numbers a row each metric is the mean over them.

Axes: N rows, K numbers a row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from mmreg_tasks.metrics import ranks


def _r2(predicted: Tensor, actual: Tensor) -> Tensor:
    residual = (predicted - actual).square().sum(0)
    spread = (actual - actual.mean(0)).square().sum(0)
    # Of equal targets R2 is undefined; rounding may leave them a tiny spread, so they are told by their range.
    return torch.where(actual.amax(0) > actual.amin(0), 1 - residual / spread, 0.0)


def _mae(predicted: Tensor, actual: Tensor) -> Tensor:
    return (predicted - actual).abs().mean(0)


def _mse(predicted: Tensor, actual: Tensor) -> Tensor:
    return (predicted - actual).square().mean(0)


def _rmse(predicted: Tensor, actual: Tensor) -> Tensor:
    return _mse(predicted, actual).sqrt()


def _mape(predicted: Tensor, actual: Tensor) -> Tensor:
    floor = torch.finfo(torch.float64).eps  # scikit-learn's, for targets of zero
    return ((predicted - actual).abs() / actual.abs().clamp(min=floor)).mean(0)


def _explained_variance(predicted: Tensor, actual: Tensor) -> Tensor:
    return _r2(predicted - (predicted - actual).mean(0), actual)


def _pearson(predicted: Tensor, actual: Tensor) -> Tensor:
    x, y = predicted - predicted.mean(0), actual - actual.mean(0)
    product = x.square().sum(0).sqrt() * y.square().sum(0).sqrt()
    varies = (predicted.amax(0) > predicted.amin(0)) & (actual.amax(0) > actual.amin(0))
    return torch.where(varies, ((x * y).sum(0) / product).clamp(-1, 1), 0.0)


def _spearman(predicted: Tensor, actual: Tensor) -> Tensor:
    # Not torchmetrics' spearman_corrcoef: 1.9 adds up tied ranks in int32, which overflows with a million rows.
    by_column = (torch.stack([ranks(column) for column in values.unbind(1)], 1) for values in (predicted, actual))
    return _pearson(*by_column)


_SUMMARY: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {"mae": _mae, "rmse": _rmse, "r2": _r2}

_FURTHER: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mse": _mse,
    "mape": _mape,
    "explained_variance": _explained_variance,
    "pearson": _pearson,
    "spearman": _spearman,
}

_LESS_IS_BETTER = frozenset({"mae", "rmse", "mse", "mape"})

METRICS: Mapping[str, bool] = {name: name not in _LESS_IS_BETTER for name in (*_SUMMARY, *_FURTHER)}
"""Every metric by name, with whether more is better."""


def summary(predicted: Tensor, actual: Tensor) -> dict[str, Any]:
    """The mean absolute error, the root of the mean squared error and R2, in the target's units.

    With several numbers a row, "per_output" has those of each.

    Args:
        predicted: (N, K) float64.
        actual: (N, K) float64.
    """
    found = {name: metric(predicted, actual) for name, metric in _SUMMARY.items()}
    result: dict[str, Any] = {name: values.mean().item() for name, values in found.items()}
    if actual.shape[1] > 1:
        rows = zip(*(values.tolist() for values in found.values()), strict=True)
        result["per_output"] = [dict(zip(found, row, strict=True)) for row in rows]
    return result


def further(names: Iterable[str], predicted: Tensor, actual: Tensor) -> dict[str, float]:
    """Those of the named metrics that `summary` does not give.

    mape is the mean absolute percentage error as a fraction (useless where targets are near zero); pearson and
    spearman are correlations, 0 where undefined.

    Args:
        names: known ones.
        predicted: (N, K) float64.
        actual: (N, K) float64.
    """
    return {name: _FURTHER[name](predicted, actual).mean().item() for name in names if name in _FURTHER}
