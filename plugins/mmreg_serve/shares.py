"""Each modality's share in a prediction: exact Shapley values over all subsets of the modalities.

Axes: R rows, M modalities, S subsets (2 to the power of M), Q quantities.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmreg import Run, Task


def shares(
    run: Run, prepared: Mapping[str, Any], rows: NDArray[np.int64], batch_size: int
) -> list[dict[str, dict[str, float]]]:
    """How much each modality of some rows changes what is predicted.

    Args:
        run: the model.
        prepared: the inputs' values, as `Run.prepare` gives them.
        rows: (R,) which rows of them.
        batch_size: rows at a time.

    Returns:
        For each row its "shares" by modality: the absolute Shapley values, as parts of their sum (of several targets
        the mean of each one's). Where one of several classes is predicted, also "effects": the Shapley values of that
        class's probability, whose sum is by how much it differs from what the model says of a row without any modality.
    """
    names = list(run.inputs)
    subsets = np.arange(1 << len(names))[:, None] >> np.arange(len(names)) & 1 == 1  # (S, M)
    drop = {
        part: np.tile(~subsets[:, column], len(rows)) for column, name in enumerate(names) for part in run.inputs[name]
    }
    scores = run.predict_rows(prepared, np.repeat(rows, len(subsets)), batch_size, drop=drop).scores
    weights = shapley_weights(subsets)
    shape = (len(rows), len(subsets))
    values = {
        name: torch.einsum("ms,rsq->rmq", weights, quantities.double().reshape(*shape, -1))
        for name, quantities in _quantities(run.task, scores).items()
    }
    parts = torch.stack([_normalised(each.abs().sum(-1)) for each in values.values()]).mean(0)  # (R, M)
    present = np.stack([np.any([prepared[part].present[rows] for part in run.inputs[name]], 0) for name in names], 1)
    told = [{"shares": _named(names, part, there)} for part, there in zip(parts.tolist(), present, strict=True)]
    if run.task.space == "log_probabilities":
        predicted = scores.reshape(*shape, -1)[:, -1].argmax(-1)
        effects = next(iter(values.values()))[torch.arange(len(rows)), :, predicted]
        for each, effect, there in zip(told, effects.tolist(), present, strict=True):
            each["effects"] = _named(names, effect, there)
    return told


def shapley_weights(subsets: NDArray[np.bool_]) -> Tensor:
    """By what each subset's value is multiplied in each modality's Shapley value, (M, S) float64 (Shapley 1953)."""
    players = subsets.shape[1]
    sizes = subsets.sum(1)
    of_size = [math.factorial(n) * math.factorial(players - n - 1) / math.factorial(players) for n in range(players)]
    with_it = np.array([of_size[size - 1] if size else 0.0 for size in sizes])
    without_it = np.array([of_size[size] if size < players else 0.0 for size in sizes])
    return torch.from_numpy(np.where(subsets, with_it[:, None], -without_it[:, None]).T.copy())


def _quantities(task: Task, scores: Tensor) -> dict[str, Tensor]:
    """Of each target what its scores say, in units that can be added: probabilities, or values as they are."""
    found = {}
    for name, target in task.targets().items():
        own, space = target.scores(scores), target.task.space
        found[name] = own.exp() if space == "log_probabilities" else own.sigmoid() if space == "log_odds" else own
    return found


def _normalised(sizes: Tensor) -> Tensor:
    return sizes / sizes.sum(-1, keepdim=True).clamp_min(1e-12)


def _named(names: Sequence[str], values: Sequence[float], there: NDArray[np.bool_]) -> dict[str, float]:
    return {name: value for name, value, has in zip(names, values, there, strict=True) if has}
