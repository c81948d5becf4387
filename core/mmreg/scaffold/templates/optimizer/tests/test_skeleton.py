"""The conformance checks, and what this optimizer does to numbers."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from mmreg import ParameterGroup, registry
from mmreg.testing import parametrize_checks


@parametrize_checks("optimizer/skeleton")
def test_conformance(check: Callable[[], None]) -> None:
    check()


def test_a_step_is_the_sign_of_momentum_and_gradient_after_the_decay() -> None:
    weight = nn.Parameter(torch.tensor([1.0, -2.0]))
    chosen = registry.build("optimizer", "skeleton", lr=0.1, beta1=0.5, beta2=0.75, weight_decay=0.5)
    optimizer = chosen.build([ParameterGroup([weight])])
    weight.grad = torch.tensor([4.0, -4.0])
    optimizer.step()
    assert weight.tolist() == pytest.approx([0.95 * 1 - 0.1, 0.95 * -2 + 0.1])
    before = weight.tolist()
    weight.grad = torch.tensor([-2.0, -4.0])  # the momentum is [1, -1]: with the half of each, [-0.5, -2.5]
    optimizer.step()
    assert weight.tolist() == pytest.approx([0.95 * before[0] + 0.1, 0.95 * before[1] + 0.1])


def test_a_group_has_its_share_of_the_rate_and_its_own_decay() -> None:
    groups = [
        ParameterGroup([nn.Parameter(torch.ones(2, 2))], lr=0.5),
        ParameterGroup([nn.Parameter(torch.ones(2, 2))], weight_decay=0.3),
        ParameterGroup([nn.Parameter(torch.ones(2))], decays=False, weight_decay=0.3),
    ]
    optimizer = registry.build("optimizer", "skeleton", lr=0.1, weight_decay=0.2).build(groups)
    found = [(group["lr"], group["weight_decay"]) for group in optimizer.param_groups]
    assert found == [(0.05, 0.2), (0.1, 0.3), (0.1, 0.0)]
