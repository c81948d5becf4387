"""The interfaces of what moves the weights: optimizers, and schedules of their learning rate."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that are treated alike.

    Attributes:
        parameters: the parameters, at least one.
        decays: whether weight decay is for them; it is not for biases and norms (one axis at most).
        lr: by what the learning rate is multiplied for them.
        weight_decay: their own weight decay, instead of the optimizer's; None for that.
    """

    parameters: Sequence[nn.Parameter]
    decays: bool = True
    lr: float = 1.0
    weight_decay: float | None = None


class Optimizer(ABC):
    """Makes the optimizer of a training. Its constructor takes options only, and reads nothing."""

    version: ClassVar[int] = 1

    @abstractmethod
    def build(self, groups: Sequence[ParameterGroup]) -> torch.optim.Optimizer:
        """An optimizer over these parameters.

        Its `param_groups` have an "lr" each, which a schedule changes, and its state is that of
        `torch.optim.Optimizer`: tensors and plain data in `state_dict`.
        """


class Schedule(ABC):
    """The course of the learning rate. Its constructor takes options only, and reads nothing.

    Attributes:
        per_step: whether it is stepped after every optimizer step, rather than after every epoch.
        follows_loss: whether its `step` takes the validation loss (the training loss without validation rows); then
            it is stepped after every epoch.
    """

    version: ClassVar[int] = 1
    per_step: ClassVar[bool] = False
    follows_loss: ClassVar[bool] = False

    @abstractmethod
    def build(self, optimizer: torch.optim.Optimizer, *, steps: int, epochs: int) -> LRScheduler:
        """A scheduler over all groups of an optimizer.

        Args:
            optimizer: whose learning rates it sets.
            steps: the number of optimizer steps of the training.
            epochs: the number of its epochs.
        """
