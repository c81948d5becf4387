"""An optimizer, a schedule, a metric and a callback that keep every promise; mutants break one of them each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

import torch
from annotated_types import Ge
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from mmreg import Callback, FollowedRun, Metric, Optimizer, ParameterGroup, Schedule, Step


class Descent(Optimizer):
    """Gradient descent with momentum.

    Args:
        lr: the learning rate.
        weight_decay: the weight decay.
    """

    def __init__(self, *, lr: Annotated[float, Ge(0)] = 0.01, weight_decay: Annotated[float, Ge(0)] = 0.1) -> None:
        self.lr, self.weight_decay = lr, weight_decay

    def group(self, group: ParameterGroup) -> dict[str, Any]:
        decay = self.weight_decay if group.weight_decay is None else group.weight_decay
        decay = decay if group.decays else 0.0
        return {"params": list(group.parameters), "lr": self.lr * group.lr, "weight_decay": decay}

    def build(self, groups: Sequence[ParameterGroup]) -> torch.optim.Optimizer:
        return torch.optim.SGD([self.group(each) for each in groups], momentum=0.9)


class Fading(Schedule):
    """A straight line down to a share of the rate.

    Args:
        final: the share.
    """

    per_step: ClassVar[bool] = True

    def __init__(self, *, final: Annotated[float, Ge(0)] = 0.1) -> None:
        self.final = final

    def factor(self, done: float) -> float:
        return 1 - (1 - self.final) * done

    def build(self, optimizer: torch.optim.Optimizer, *, steps: int, epochs: int) -> LRScheduler:
        return LambdaLR(optimizer, lambda step: self.factor(min(1.0, step / steps)))


class Right(Metric):
    """The share of right decisions.

    Args:
        threshold: of labels: the log-odds above which one is predicted.
    """

    spaces = frozenset({"log_probabilities", "log_odds"})

    def __init__(self, *, num_outputs: int, threshold: float = 0.0) -> None:
        self.threshold = threshold

    def decided(self, scores: Tensor, targets: Tensor) -> Tensor:
        return scores.argmax(1) == targets if targets.ndim == 1 else (scores > self.threshold) == (targets > 0.5)

    def compute(self, scores: Tensor, targets: Tensor) -> float:
        return float(self.decided(scores, targets).double().mean())


class Diary(Callback):
    """Keeps what happened in a file.

    Args:
        name: of the file.
    """

    def __init__(self, *, name: str = "diary.txt") -> None:
        self.name = name
        self.lines: list[str] = []

    def on_step(self, step: Step) -> None:
        self.lines.append(f"{step.step}/{step.steps}: {step.loss():.3f}")

    def on_end(self, run: FollowedRun, report: Mapping[str, Any]) -> None:
        (run.folder / self.name).write_text("\n".join([*self.lines, str(report["epochs"])]), encoding="utf-8")
