"""Small models and their gradients, for tests of what moves the weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmreg import ParameterGroup


def small_model() -> nn.Module:
    """A convolution, a norm and a linear layer: tensors of 4, 2 and 1 axes."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 2, 2), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 3))


def default_groups(model: nn.Module) -> list[ParameterGroup]:
    """What decays and what does not, as a training groups them."""
    decaying = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    return [ParameterGroup(decaying), ParameterGroup(others, decays=False)]


def step(model: nn.Module, optimizer: torch.optim.Optimizer, number: int) -> None:
    """One step on a batch of its own."""
    generator = torch.Generator().manual_seed(number)
    model.zero_grad()
    output = model(torch.randn(5, 1, 3, 3, generator=generator))
    nn.functional.cross_entropy(output, torch.arange(5) % 3).backward()
    optimizer.step()


def same_weights(one: nn.Module, other: nn.Module) -> bool:
    """Whether all weights are bit for bit the same."""
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def toy_optimizer(rates: Sequence[float] = (1.0,), lr: float = 0.1) -> torch.optim.Optimizer:
    """SGD with momentum over one weight for each multiple of the learning rate; its gradients are zero."""
    weights: list[Tensor] = [nn.Parameter(torch.zeros(1)) for _ in rates]
    for weight in weights:
        weight.grad = torch.zeros(1)
    groups = [{"params": [weight], "lr": lr * rate} for weight, rate in zip(weights, rates, strict=True)]
    return torch.optim.SGD(groups, lr=lr, momentum=0.9)
