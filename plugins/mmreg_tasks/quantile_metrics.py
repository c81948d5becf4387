"""Metrics of predicted quantiles of a number.

Axes: N rows, K quantiles.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mmreg_tasks.metrics import wilson

METRICS: Mapping[str, bool] = {"pinball": False, "mae": False}
"""Every metric by which weights may be chosen, with whether more is better."""


def pinball(predicted: Tensor, actual: Tensor, quantiles: Sequence[float]) -> Tensor:
    """The pinball loss of each quantile, (N, K): q max(y - s, 0) + (1 - q) max(s - y, 0) (Koenker and Bassett 1978).

    Args:
        predicted: (N, K).
        actual: (N, K), the same number in each column.
        quantiles: K of them.
    """
    levels = torch.tensor(quantiles, dtype=predicted.dtype, device=predicted.device)
    error = actual.to(predicted.dtype) - predicted
    return torch.maximum(levels * error, (levels - 1) * error)


def summary(predicted: Tensor, actual: Tensor, quantiles: Sequence[float]) -> dict[str, Any]:
    """All figures of N rows; see `Quantile.evaluate`."""
    losses = pinball(predicted, actual, quantiles).mean(0)
    below = (actual <= predicted).double().mean(0)
    result: dict[str, Any] = {"pinball": losses.mean().item()}
    for index, quantile in enumerate(quantiles):
        if quantile == 0.5:
            result["mae"] = (predicted - actual)[:, index].abs().mean().item()
    if len(quantiles) > 1:
        within = int(((predicted[:, 0] <= actual[:, 0]) & (actual[:, 0] <= predicted[:, -1])).sum())
        result["coverage"] = within / len(actual)
        result["width"] = (predicted[:, -1] - predicted[:, 0]).mean().item()
        result["intervals"] = {"coverage": wilson(within, len(actual))}
    columns = zip(quantiles, losses.tolist(), below.tolist(), strict=True)
    result["per_quantile"] = {f"q{q}": {"pinball": loss, "rows below": share} for q, loss, share in columns}
    return result
