"""What does not fit into the memory is refused before it is allocated, and nothing else changes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from mmreg import allocation
from mmreg.allocation import MemoryGuard, free_memory
from mmreg.errors import MemoryLimitError

MANY = 10**6


@pytest.fixture(autouse=True)
def _a_machine_of_one_gigabyte(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allocation, "free_memory", lambda: 1e9)


HUGE: dict[str, Callable[[], Any]] = {
    "layer": lambda: nn.Linear(MANY, MANY),
    "embedding": lambda: nn.Embedding(2**31, 1000),
    "recurrent": lambda: nn.LSTM(8, MANY),
    "zeros": lambda: torch.zeros(MANY, MANY),
    "keyed draws": lambda: torch.randn(MANY, MANY, generator=torch.Generator()),
    "identity": lambda: torch.eye(MANY),
    "numbers": lambda: torch.arange(10**12),
    "window": lambda: torch.hann_window(10**12),
    "like another": lambda: torch.zeros(3).new_zeros(10**12),
    "broadcast": lambda: torch.arange(MANY)[:, None] - torch.arange(MANY),
    "copy of a view": lambda: torch.zeros(1).expand(10**12).clone(),
    "product": lambda: torch.ones(MANY, 1) @ torch.ones(1, MANY),
    "side by side": lambda: torch.cat([torch.zeros(1).expand(10**9)] * 2),
}


@pytest.mark.parametrize("make", HUGE.values(), ids=HUGE)
def test_whatever_makes_a_huge_tensor_is_refused(make: Callable[[], Any]) -> None:
    with pytest.raises(MemoryLimitError), MemoryGuard("encoder toy"):
        make()


def test_the_message_says_who_asks_for_how_much_and_how_much_there_is() -> None:
    with pytest.raises(MemoryError) as caught, MemoryGuard("encoder toy"):
        nn.Linear(MANY, MANY)
    assert str(caught.value) == (
        "encoder toy asks for 4.0 TB of memory, for a tensor of 1,000,000 x 1,000,000 numbers, but 1.0 GB are free on "
        "this machine: lower the options that set its size"
    )


def test_many_small_tensors_are_refused_when_the_memory_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[torch.Tensor] = []
    monkeypatch.setattr(allocation, "free_memory", lambda: 3e8 - sum(each.nbytes for each in kept))
    with pytest.raises(MemoryLimitError), MemoryGuard("encoder toy"):
        kept.extend(torch.empty(10_000) for _ in range(10_000))
    assert sum(each.nbytes for each in kept) <= 3e8


def test_what_is_freed_again_does_not_count() -> None:
    with MemoryGuard("encoder toy"):
        for _ in range(30):
            torch.empty(25 * 10**6)
    assert torch.zeros(2).sum() == 0


def test_tensors_elsewhere_and_views_do_not_count() -> None:
    with MemoryGuard("encoder toy"):
        assert torch.empty(10**12, device="meta").shape == (10**12,)
        assert torch.zeros(1).expand(10**12).shape == (10**12,)
        with torch.device("meta"):
            assert nn.Linear(MANY, MANY).weight.device.type == "meta"


def test_weights_and_draws_are_the_same_within() -> None:
    def made() -> list[torch.Tensor]:
        torch.manual_seed(0)
        layers = nn.Sequential(nn.Conv2d(3, 8, 3), nn.LSTM(4, 5), nn.TransformerEncoderLayer(8, 2), nn.Embedding(5, 4))
        nn.init.orthogonal_(layers[0].weight)
        drawn = [torch.randn(3), torch.randperm(9), torch.multinomial(torch.ones(4), 3), torch.rand(2, 2).bernoulli()]
        return [*layers.parameters(), *drawn]

    plain = made()
    with MemoryGuard("encoder toy"):
        guarded = made()
    assert len(plain) == len(guarded)
    assert all(torch.equal(one, other) for one, other in zip(plain, guarded, strict=True))


def test_a_limit_of_the_process_counts_as_the_memory_that_there_is() -> None:
    pytest.importorskip("resource")
    code = (
        "import resource; from mmreg.allocation import free_memory; before = free_memory();"
        "resource.setrlimit(resource.RLIMIT_AS, (2 << 40, 2 << 40)); assert free_memory() > 0 and before > 0;"
        "space = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize();"
        "resource.setrlimit(resource.RLIMIT_AS, (space + (1 << 26),) * 2);"
        "assert 0 < free_memory() <= 1 << 26, free_memory()"
    )
    if sys.platform != "linux":
        pytest.skip("other systems do not tell how much a process has")
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_the_machine_has_some_memory() -> None:
    assert free_memory() > 2**20
