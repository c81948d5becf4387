"""The conformance checks, and the course of the rate."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from mmreg import registry
from mmreg.errors import OptionError
from mmreg.testing import parametrize_checks


@parametrize_checks("schedule/skeleton")
def test_conformance(check: Callable[[], None]) -> None:
    check()


def rates(steps: int, **options: float) -> list[float]:
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=2.0)
    scheduler = registry.build("schedule", "skeleton", **options).build(optimizer, steps=steps, epochs=1)
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def test_the_rate_rises_stays_and_falls() -> None:
    assert rates(10, warmup=0.3, decay=0.4) == pytest.approx([0.5, 1, 1.5, 2, 2, 2, 2 * 4 / 5, 2 * 3 / 5, 0.8, 0.4])


def test_without_warm_up_and_decay_it_stays() -> None:
    assert rates(4, warmup=0.0, decay=0.0) == [2, 2, 2, 2]


def test_shares_of_more_than_the_whole_are_refused() -> None:
    with pytest.raises(OptionError, match="1 at most together"):
        registry.build("schedule", "skeleton", warmup=0.6, decay=0.6)
