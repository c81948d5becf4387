"""Gradient blending: weights for the losses of several models in one training, by how much each overfits.

Wang, Tran and Feiszli, What Makes Training Multi-Modal Classification Networks Hard?, CVPR 2020.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

WINDOW = 3
"""Epochs between two estimates, over which progress is measured (the paper's super-epoch)."""


def blending_weights(history: Sequence[Mapping[str, float]], names: Sequence[str]) -> dict[str, float] | None:
    """The weight of each loss for the next epoch, w_k = G_k / O_k^2, scaled to a mean of one.

    Over a window, generalisation G is what the validation loss fell by, and overfitting O what the gap between
    validation and training loss grew by. A model whose validation loss did not fall gets no weight.

    Args:
        history: a row an epoch, with `train_NAME_loss` and `validation_NAME_loss`.
        names: whose losses they are.

    Returns:
        Weights by name; None before the first window is over, or if nothing has got better in the last one: then the
        weights stay as they are.
    """
    epochs = len(history) - len(history) % WINDOW
    if epochs < 2 * WINDOW:
        return None
    before, now = history[epochs - WINDOW - 1], history[epochs - 1]
    ratios = {}
    for name in names:
        train, validation = f"train_{name}_loss", f"validation_{name}_loss"
        generalised = before[validation] - now[validation]
        overfitted = (now[validation] - now[train]) - (before[validation] - before[train])
        ratios[name] = max(generalised, 0.0) / max(overfitted**2, 1e-4)
    total = sum(ratios.values())
    if not total > 0:
        return blending_weights(history[: epochs - WINDOW], names)
    return {name: ratio * len(names) / total for name, ratio in ratios.items()}
