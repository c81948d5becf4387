"""How far a training is, the time that it may take, and the learning rate's course where its length has changed."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler

from mmreg.contract.metrics import Epoch, MetricValue
from mmreg.training.step import Losses


@dataclass
class Progress:
    """How far a training is, besides the state of model and optimizer: plain data.

    Attributes:
        epoch: epochs done.
        step: optimizer steps done.
        history: what each epoch came to.
        best: the best value of the metric so far, with its epoch.
        stale: epochs since the last improvement.
        finished: whether training has ended.
    """

    epoch: int = 0
    step: int = 0
    history: list[Epoch] = field(default_factory=list)
    best: tuple[float, int] | None = None
    stale: int = 0
    finished: bool = False

    def to_plain(self) -> dict[str, Any]:
        """All of it as plain data; `from_plain` reads it back."""
        return {**vars(self), "history": [epoch.to_plain() for epoch in self.history]}

    @classmethod
    def from_plain(cls, data: Mapping[str, Any]) -> Progress:
        """What `to_plain` gave.

        Raises:
            ValueError: a number is none that it could have given.
        """
        _check_counts(data, ("epoch", "step", "stale"))
        epochs, best = len(data["history"]), data["best"]
        if epochs != data["epoch"]:
            raise ValueError(f"{epochs} of {data['epoch']} epochs have figures")
        if best is not None and not (len(best) == 2 and best[1] in range(1, epochs + 1)):
            raise ValueError(f"best is {best!r} of {epochs} epochs")
        return cls(**{**data, "history": [Epoch.from_plain(epoch) for epoch in data["history"]]})


@dataclass
class Position:
    """Where a training stands within an epoch, and what the steps so far came to.

    Attributes:
        first_step: optimizer steps that were done before the epoch.
        learning_rate: at the epoch's beginning.
        batches: batches of the epoch that are done.
        weight: the weight of their rows.
        sums: (1 + n,), the losses and terms so far, each by the weight of its rows: by the names of the terms, as steps
            may differ in these.
        seconds: what the steps so far took.
    """

    first_step: int
    learning_rate: float
    batches: int = 0
    weight: float = 0.0
    sums: dict[tuple[tuple[str, str], ...], Tensor] = field(default_factory=dict)
    seconds: float = 0.0

    def add(self, batches: int, weight: float, losses: Losses, bad: bool | Tensor | None) -> None:
        """Count a step over so many batches, whose rows weigh this much; not its losses, if it was skipped as bad."""
        self.batches += batches
        if bad is True:
            return
        self.weight += weight
        # Without waiting for the device to say whether it was.
        values = torch.where(bad, 0, losses.values) if isinstance(bad, Tensor) else losses.values
        if losses.names in self.sums:
            self.sums[losses.names].add_(values, alpha=weight)
        else:
            self.sums[losses.names] = values * weight

    def means(self) -> list[MetricValue]:
        """The means of the loss and of its terms over the rows so far."""
        totals = {("", "loss"): 0.0}
        for names, sums in self.sums.items():
            for name, value in zip([("", "loss"), *names], sums.tolist(), strict=True):
                totals[name] = totals.get(name, 0.0) + value
        return [
            MetricValue("train", part, name, total / (self.weight or 1.0)) for (part, name), total in totals.items()
        ]

    def to_plain(self) -> dict[str, Any]:
        """All of it as tensors and plain data; `from_plain` reads it back."""
        return {**vars(self), "sums": [[[list(name) for name in names], sums] for names, sums in self.sums.items()]}

    @classmethod
    def from_plain(cls, data: Mapping[str, Any], device: torch.device) -> Position:
        """What `to_plain` gave, on a device.

        Raises:
            ValueError: a number is none that it could have given.
        """
        _check_counts(data, ("first_step", "batches"))
        if not (0 <= float(data["weight"]) < math.inf):
            raise ValueError(f"weight is {data['weight']!r}")
        data = dict(data)
        if "terms" in data:  # earlier releases kept the loss and each term by itself
            terms = data.pop("terms")
            values = torch.stack([data.pop("loss"), *(term for _, _, term in terms)])
            data["sums"] = [[[[part, name] for part, name, _ in terms], values]]
        sums = {tuple((part, name) for part, name in names): sums.to(device) for names, sums in data["sums"]}
        return cls(**{**data, "sums": sums})


def _check_counts(data: Mapping[str, Any], keys: Sequence[str]) -> None:
    for key in keys:
        if not isinstance(data[key], int) or data[key] < 0:
            raise ValueError(f"{key} is {data[key]!r}")


class Clock:
    """The time that a training may take, counted from the first question for it.

    Args:
        minutes: how many; None for as many as it takes.
    """

    def __init__(self, minutes: float | None) -> None:
        self._minutes = minutes
        self._began: float | None = None
        self._validation = 0.0

    def is_over(self) -> bool:
        """Whether there is no time for more than one validation, which takes as long as the last one."""
        if self._minutes is None:
            return False
        now = time.monotonic()
        if self._began is None:
            self._began = now
        return now - self._began + self._validation >= 60 * self._minutes

    @contextmanager
    def validating(self) -> Iterator[None]:
        """Time a validation."""
        began = time.monotonic()
        yield
        self._validation = time.monotonic() - began


def rates_after(schedule: LRScheduler, optimizer: torch.optim.Optimizer, steps: int) -> list[dict[str, Any]]:
    """Step a new schedule as often as it would have been by now, and give what it has set.

    Args:
        schedule: over the optimizer, as built.
        optimizer: as built, too.
        steps: how often.

    Returns:
        For each group of the optimizer all that it holds but the parameters: learning rate, momentum and the like.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of a schedule that is stepped before its optimizer
        for _ in range(steps):
            schedule.step()
    return [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
