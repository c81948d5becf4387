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
    return 1 - residual / spread


def _varies(values: Tensor) -> Tensor:
    """Which columns hold several numbers, (K,): of equal ones rounding may leave a tiny spread."""
    return values.amax(0) > values.amin(0)


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
    return torch.where(_varies(predicted), ((x * y).sum(0) / product).clamp(-1, 1), 0.0)


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

_OF_SPREAD = frozenset({"r2", "explained_variance", "pearson", "spearman"})
"""What compares with the spread of the targets, and is undefined of equal ones, as of a single row."""

_LESS_IS_BETTER = frozenset({"mae", "rmse", "mse", "mape"})

METRICS: Mapping[str, bool] = {name: name not in _LESS_IS_BETTER for name in (*_SUMMARY, *_FURTHER)}
"""Every metric by name, with whether more is better."""


def summary(predicted: Tensor, actual: Tensor) -> dict[str, Any]:
    """The mean absolute error, the root of the mean squared error and R2, in the target's units.

    With several numbers a row, "per_output" has those of each. R2 is None of equal targets, and else the mean over the
    numbers whose targets differ.

    Args:
        predicted: (N, K) float64.
        actual: (N, K) float64.
    """
    found = {name: metric(predicted, actual) for name, metric in _SUMMARY.items()}
    defined = {name: _defined(name, actual) for name in found}
    result: dict[str, Any] = {name: _mean(values, defined[name]) for name, values in found.items()}
    if actual.shape[1] > 1:
        result["per_output"] = [
            {name: values[k].item() if defined[name][k] else None for name, values in found.items()}
            for k in range(actual.shape[1])
        ]
    return result


def _defined(name: str, actual: Tensor) -> Tensor:
    """For which numbers a metric is defined, (K,) bool."""
    return _varies(actual) if name in _OF_SPREAD else torch.ones(actual.shape[1], dtype=torch.bool)


def _mean(values: Tensor, defined: Tensor) -> float | None:
    return values[defined].mean().item() if defined.any() else None


def further(names: Iterable[str], predicted: Tensor, actual: Tensor) -> dict[str, float | None]:
    """Those of the named metrics that `summary` does not give.

    mape is the mean absolute percentage error as a fraction (useless where targets are near zero); pearson and
    spearman are correlations, 0 where all predictions are equal. Of equal targets these and explained_variance are
    None, as they are undefined.

    Args:
        names: known ones.
        predicted: (N, K) float64.
        actual: (N, K) float64.
    """
    return {
        name: _mean(_FURTHER[name](predicted, actual), _defined(name, actual)) for name in names if name in _FURTHER
    }
