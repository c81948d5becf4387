"""Greedy soup: the mean of the weights of the best epochs, as far as each does the validation metric no harm.

Wortsman et al. 2022, "Model soups", with checkpoints of one training as ingredients.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mmreg import runs
from mmreg.contract.metrics import Epoch

SIZE = 3
"""How many epochs there are to choose from."""
State = Mapping[str, Tensor]
Standing = tuple[float, float]
UNMEASURED: Standing = (-math.inf, -math.inf)
"""Below every epoch that was measured."""


@dataclass(frozen=True)
class Soup:
    """Weights that are the mean of those of some epochs.

    Attributes:
        state: the weights by name.
        epochs: whose they are, the best first.
        value: the validation metric.
    """

    state: State
    epochs: tuple[int, ...]
    value: float


def epoch_weights(epoch: int | str) -> str:
    """The file of an epoch's weights, relative to the run's folder; "*" for all of them."""
    return f"{runs.CHECKPOINTS}/epoch-{epoch}.safetensors"


def standing(epoch: Epoch, metric: str, *, more_is_better: bool) -> Standing:
    """How good an epoch was, the greater the better: by a metric on validation rows, and of equal ones by their loss.

    Where few rows choose, many epochs have as many of them right, and the loss still tells them apart.
    """
    value, loss = epoch.get("validation", metric), epoch.get("validation", "loss")
    if value is None:
        return UNMEASURED
    return value if more_is_better else -value, -math.inf if loss is None else -loss


def best_epochs(history: Sequence[Epoch], metric: str, *, more_is_better: bool) -> list[int]:
    """The best epochs that were measured, by `standing`, the best first; of equal ones the earlier."""
    stood = [(standing(each, metric, more_is_better=more_is_better), each.number) for each in history]
    ranked = sorted((pair for pair in stood if pair[0] != UNMEASURED), key=lambda pair: pair[0], reverse=True)
    return [number for _, number in ranked[:SIZE]]


def averaged(states: Sequence[State]) -> dict[str, Tensor]:
    """The mean of real numbers, running statistics among them; what else there is, such as counts, is the first's."""
    mean = {}
    for name, first in states[0].items():
        mean[name] = first
        if first.is_floating_point() and len(states) > 1:
            total = torch.stack([state[name].double() for state in states]).mean(0)
            mean[name] = total.to(first.dtype)
    return mean


def greedy_soup(
    ingredients: Sequence[tuple[int, State]],
    value: float,
    measure: Callable[[State], float | None],
    *,
    more_is_better: bool,
) -> Soup:
    """The soup of some epochs.

    Args:
        ingredients: epochs with their weights, the best first.
        value: what the first has measured.
        measure: gives the metric of some weights on validation rows; None where it is no finite number.
        more_is_better: the metric's direction.
    """
    sign = 1 if more_is_better else -1
    number, state = ingredients[0]
    soup, chosen = Soup(state, (number,), value), [state]
    for number, state in ingredients[1:]:
        together = averaged([*chosen, state])
        found = measure(together)
        if found is not None and sign * found >= sign * soup.value:
            chosen.append(state)
            soup = Soup(together, (*soup.epochs, number), found)
    return soup
