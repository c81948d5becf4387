"""Gradient blending: weights for the losses of several models in one training, by how much each overfits.

Wang, Tran and Feiszli, What Makes Training Multi-Modal Classification Networks Hard?, CVPR 2020.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mmreg.contract.metrics import Epoch

WINDOW = 3
"""Epochs between two estimates, over which progress is measured (the paper's super-epoch)."""


def blending_weights(history: Sequence[Epoch], parts: Mapping[str, str]) -> dict[str, float] | None:
    """The weight of each loss for the next epoch, w_k = G_k / O_k^2, scaled to a mean of one.

    Over a window, generalisation G is what the validation loss fell by, and overfitting O what the gap between
    validation and training loss grew by. A model whose validation loss did not fall gets no weight.

    Args:
        history: the epochs so far.
        parts: whose training losses are weighted, each with the part whose validation loss belongs to it ("" for the
            whole model); those of which one is not known are left out.

    Returns:
        Weights by name; None before the first window is over, or if nothing has got better in the last one: then the
        weights stay as they are.
    """
    epochs = len(history) - len(history) % WINDOW
    if epochs < 2 * WINDOW:
        return None
    before, now = history[epochs - WINDOW - 1], history[epochs - 1]
    ratios = {}
    for name, part in parts.items():
        train = before.get("train", "loss", name), now.get("train", "loss", name)
        validation = before.get("validation", "loss", part), now.get("validation", "loss", part)
        if train[0] is None or train[1] is None or validation[0] is None or validation[1] is None:
            continue
        generalised = validation[0] - validation[1]
        overfitted = (validation[1] - train[1]) - (validation[0] - train[0])
        ratios[name] = max(generalised, 0.0) / max(overfitted**2, 1e-4)
    total = sum(ratios.values())
    if not total > 0:
        return blending_weights(history[: epochs - WINDOW], parts)
    return {name: ratio * len(ratios) / total for name, ratio in ratios.items()}
