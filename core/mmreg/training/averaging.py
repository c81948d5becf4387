"""A moving average of a model's weights, which often predicts better than the weights that are trained."""

from __future__ import annotations

import copy
from itertools import chain

import torch
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from mmreg.layers import own_share
from mmreg.model.model import MultimodalModel


class Average:
    """An exponential moving average of all weights, and of what is a real number among the buffers.

    The statistics of batch norms are averaged with the weights that they belong to; other buffers, such as counts, are
    those of the trained model. It is torch's own update without `torch.optim.swa_utils.AveragedModel` around it, which
    counts on the device, so that each step would wait for it.

    Args:
        model: whose weights, on its device; the average begins with them.
        decay: what remains of the average in a step, once there were enough of them.
        copied: a copy of the model, which comes to have the averaged weights.

    Attributes:
        model: a model with the averaged weights, for predicting.
    """

    def __init__(self, model: MultimodalModel, decay: float, copied: MultimodalModel | None = None) -> None:
        self.model = (copied or copy.deepcopy(model)).requires_grad_(False)
        self._decay = decay
        pairs = list(zip(_tensors(self.model), _tensors(model), strict=True))
        self._averaged = [own for own, _ in pairs if own.is_floating_point()]
        self._trained = [current for own, current in pairs if own.is_floating_point()]
        self._copied = [pair for pair in pairs if not pair[0].is_floating_point()]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights as they are after a step.

        Args:
            step: how many steps there were before.
        """
        decay = min(self._decay, (1 + step) / (10 + step))
        update = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        update(self._averaged, self._trained, step)
        for own, current in self._copied:
            own.copy_(current)


def _tensors(model: MultimodalModel) -> list[Tensor]:
    """Parameters and buffers, those that are not saved included; of each what this process has."""
    return [own_share(tensor.detach()) for tensor in chain(model.parameters(), model.buffers())]
