"""Schedules of their own rates, stepped after every optimizer step: a linear warm-up, then a fall."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar

import torch
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from mmreg import Schedule
from mmreg_optim.options import Doc, Share, options

WarmUp = Annotated[Share, Doc("the share of the steps over which the rate rises to its greatest.")]
Final = Annotated[Share, Doc("the last rate, as a share of the greatest.")]


class WarmUpSchedule(Schedule):
    """A factor of the optimizer's learning rate: a linear rise over the warm-up, then a fall to the final share."""

    per_step: ClassVar[bool] = True
    warmup: float
    final: float

    def build(self, optimizer: torch.optim.Optimizer, *, steps: int, epochs: int) -> LRScheduler:
        """See `Schedule`."""
        warmup = self.warmup * steps

        def factor(step: int) -> float:
            if step < warmup:
                return float((step + 1) / (warmup + 1))
            progress = min(1.0, (step - warmup) / max(1.0, steps - warmup))
            return float(self.final + (1 - self.final) * self.left(progress))

        return LambdaLR(optimizer, factor)

    def left(self, progress: float) -> float:
        """What is left of the fall, from 1 to 0, when a share of the steps after the warm-up is done: half a cosine."""
        return (1 + math.cos(math.pi * progress)) / 2


@options
class Cosine(WarmUpSchedule):
    """Half a cosine down to a final share of the rate, after a linear warm-up (Loshchilov and Hutter 2017)."""

    warmup: WarmUp = 0.0
    final: Final = 0.0


@options
class Linear(WarmUpSchedule):
    """A line down to a final share of the rate, after a linear warm-up."""

    warmup: WarmUp = 0.0
    final: Final = 0.0

    def left(self, progress: float) -> float:
        """See `WarmUpSchedule`: a line."""
        return 1 - progress


@options
class OneCycle(WarmUpSchedule):
    """A linear rise over the first part of the steps, half a cosine down over the rest (Smith and Topin 2018)."""

    warmup: WarmUp = 0.3
    final: Final = 0.0
