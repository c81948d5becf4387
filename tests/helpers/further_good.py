"""Of each further kind, such as optimizer and metric, one that keeps every promise; mutants break one of them each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

import torch
from annotated_types import Ge
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from mmreg import (
    Balance,
    BalanceBatch,
    Callback,
    EncoderGradients,
    FollowedRun,
    Metric,
    Observed,
    Optimizer,
    ParameterGroup,
    Schedule,
    Space,
    Step,
)


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


class Fair(Balance):
    """Own heads, rows that do without what is sure by itself, and gradients by how sure it was so far.

    Args:
        strength: how much smaller gradients become.
    """

    observes: ClassVar[bool] = True
    modulates: ClassVar[bool] = True
    own_gradients: ClassVar[bool] = True
    own_loss = 0.5
    sure: torch.Tensor

    def __init__(
        self,
        inputs: Mapping[str, int],
        *,
        num_logits: int,
        num_outputs: int,
        space: Space,
        strength: Annotated[float, Ge(0)] = 0.5,
    ) -> None:
        super().__init__()
        self.strength = strength
        self.heads = torch.nn.ModuleList(torch.nn.Linear(size, num_logits) for size in inputs.values())
        self.register_buffer("sure", torch.zeros(len(inputs)))

    def own_logits(self, vectors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        return {name: head(each) for head, (name, each) in zip(self.heads, vectors.items(), strict=True)}

    def keep(self, present: Tensor) -> Tensor:
        kept = present & (torch.rand(present.shape) >= 0.2 * self.sure)
        return torch.where(kept.any(1, keepdim=True), kept, present)

    def observe(self, batch: BalanceBatch) -> Observed:
        sure = torch.stack([torch.exp(-batch.row_loss(each.detach())) for each in batch.logits.values()], 1)
        return Observed(sums={"sure": (sure * batch.present).sum(0), "rows": batch.present.sum(0)})

    def modulate(self, gradients: Mapping[str, EncoderGradients], sums: Mapping[str, Tensor]) -> None:
        self.sure.mul_(0.5).add_(0.5 * sums["sure"] / sums["rows"].clamp(min=1))
        for factor, each in zip(1 - self.strength * self.sure, gradients.values(), strict=True):
            for whole, own in zip(each.whole, each.own, strict=True):
                whole.mul_(factor).add_(0.1 * own)


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
