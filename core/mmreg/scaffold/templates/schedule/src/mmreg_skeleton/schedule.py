"""A schedule: the course of the learning rate over a training."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Le
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from mmreg import Schedule
from mmreg.errors import OptionError


class SkeletonSchedule(Schedule):
    """A rate that rises along a line, stays, and falls along a line towards zero, by step.

    Args:
        warmup: the share of the steps in which it rises.
        decay: the share of the steps in which it falls.

    Raises:
        OptionError: both shares together are more than the whole.
    """

    per_step: ClassVar[bool] = True

    def __init__(
        self, *, warmup: Annotated[float, Ge(0), Le(1)] = 0.05, decay: Annotated[float, Ge(0), Le(1)] = 0.2
    ) -> None:
        if warmup + decay > 1:
            raise OptionError(f"warmup and decay must be 1 at most together, found {warmup} and {decay}")
        self.warmup = warmup
        self.decay = decay

    def build(self, optimizer: torch.optim.Optimizer, *, steps: int, epochs: int) -> LRScheduler:
        """The scheduler, to be stepped after every one of the training's `steps`."""
        rising, falling = self.warmup * steps, self.decay * steps

        def factor(step: int) -> float:
            return max(0.0, min(1.0, (step + 1) / (rising + 1), (steps - step) / (falling + 1)))

        return LambdaLR(optimizer, factor)
