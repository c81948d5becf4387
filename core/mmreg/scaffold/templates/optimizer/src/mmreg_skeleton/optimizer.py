"""An optimizer: from gradients to steps of the weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import torch
from annotated_types import Ge, Gt, Lt

from mmreg import Optimizer, ParameterGroup


class SkeletonOptimizer(Optimizer):
    """Steps along the sign of a momentum, of one length for every weight (Lion, Chen et al. 2023).

    Args:
        lr: the length of a step.
        beta1: the share of the momentum in a step's direction; the gradient has the rest.
        beta2: the share of the momentum that is kept; the gradient takes the place of the rest.
        weight_decay: the share, times the rate, by which weights shrink at every step.
    """

    def __init__(
        self,
        *,
        lr: Annotated[float, Gt(0)] = 1e-4,
        beta1: Annotated[float, Ge(0), Lt(1)] = 0.9,
        beta2: Annotated[float, Ge(0), Lt(1)] = 0.99,
        weight_decay: Annotated[float, Ge(0)] = 0.0,
    ) -> None:
        self.lr = lr
        self.betas = beta1, beta2
        self.weight_decay = weight_decay

    def build(self, groups: Sequence[ParameterGroup]) -> torch.optim.Optimizer:
        """The optimizer; each group has its share of the rate, and its own weight decay if it has one."""
        given = []
        for group in groups:
            decay = self.weight_decay if group.weight_decay is None else group.weight_decay
            parameters = list(group.parameters)
            given.append(
                {"params": parameters, "lr": self.lr * group.lr, "weight_decay": decay if group.decays else 0.0}
            )
        return _Lion(given, self.lr, self.betas)


class _Lion(torch.optim.Optimizer):
    def __init__(self, groups: list[dict[str, Any]], lr: float, betas: tuple[float, float]) -> None:
        super().__init__(groups, {"lr": lr, "betas": betas, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["momentum"] = torch.zeros_like(parameter)
                direction = state["momentum"].lerp(parameter.grad, 1 - beta1).sign()
                parameter.mul_(1 - group["lr"] * group["weight_decay"]).sub_(direction, alpha=group["lr"])
                state["momentum"].lerp_(parameter.grad, 1 - beta2)
