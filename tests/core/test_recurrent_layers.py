"""`mmreg.layers.recurrent`: what autocast asks for where torch has a kernel for it, float32 where it has none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from mmreg import layers
from mmreg.layers import has_recurrent_kernel, recurrent

CELLS = {"LSTM": nn.LSTM, "GRU": nn.GRU, "RNN_TANH": nn.RNN}
LOW = (torch.bfloat16, torch.float16)
KERNELS = ("lstm", "gru", "rnn_tanh")


def layer(mode: str, **options: Any) -> nn.RNNBase:
    torch.manual_seed(0)
    return CELLS[mode](4, 5, **{"num_layers": 2, "batch_first": True, "bidirectional": True, **options})


def batch(packed: bool = False) -> Any:
    values = torch.randn(3, 6, 4, generator=torch.Generator().manual_seed(1))
    return pack_padded_sequence(values, torch.tensor([6, 4, 1]), batch_first=True) if packed else values


def autocast(dtype: torch.dtype = torch.bfloat16) -> AbstractContextManager[Any]:
    return torch.autocast("cpu", dtype)


def parts(result: tuple[Any, Any]) -> list[Tensor]:
    """The states and what the final state consists of."""
    states, final = result
    states = states.data if isinstance(states, PackedSequence) else states
    return [states, *(final if isinstance(final, tuple) else [final])]


def gradients(module: nn.RNNBase, result: tuple[Any, Any]) -> list[Tensor]:
    """Of the sum of all that a layer returned."""
    total = torch.stack([part.double().sum() for part in parts(result)]).sum()
    return list(torch.autograd.grad(total, list(module.parameters())))


@pytest.fixture
def lacking(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A machine whose torch has no recurrent kernel in reduced precision; every call that failed for it."""
    failed: list[str] = []

    def replace(name: str) -> None:
        kernel = getattr(torch._VF, name)

        def call(*arguments: Any) -> Any:
            if torch.is_autocast_enabled("cpu"):
                failed.append(name)
                raise RuntimeError("could not create a primitive descriptor for the forward propagation primitive")
            return kernel(*arguments)

        monkeypatch.setattr(torch._VF, name, call)

    for name in KERNELS:
        replace(name)
    layers._trains.cache_clear()
    yield failed
    layers._trains.cache_clear()


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("mode", CELLS)
def test_without_a_kernel_the_result_is_that_of_float32_rounded_and_so_are_the_gradients(
    mode: str, packed: bool, lacking: list[str]
) -> None:
    module, values = layer(mode), batch(packed)
    expected = module(values)
    for dtype in LOW:
        with autocast(dtype):
            found = recurrent(module, values)
        assert type(found[0]) is type(expected[0])
        for part, wide in zip(parts(found), parts(expected), strict=True):
            assert part.dtype == dtype
            assert torch.equal(part, wide.to(dtype))
        wide_gradients = gradients(module, module(values))
        for gradient, wide in zip(gradients(module, found), wide_gradients, strict=True):
            assert torch.equal(gradient, wide)
    assert lacking == [name for name in KERNELS if name == mode.lower()] * len(LOW)  # each was asked for once


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("mode", CELLS)
def test_on_this_machine_it_follows_float32_in_the_dtype_of_autocast(mode: str, packed: bool) -> None:
    module, values = layer(mode), batch(packed)
    expected = module(values)
    for dtype in LOW:
        with autocast(dtype):
            found = recurrent(module, values)
        for part, wide in zip(parts(found), parts(expected), strict=True):
            assert part.dtype == dtype
            torch.testing.assert_close(part.float(), wide, rtol=0, atol=0.02)
        for gradient, wide in zip(gradients(module, found), gradients(module, module(values)), strict=True):
            assert gradient.dtype == torch.float32
            torch.testing.assert_close(gradient, wide, rtol=0.05, atol=0.5)


@pytest.mark.parametrize("mode", CELLS)
def test_a_state_is_taken_and_given_on(mode: str, lacking: list[str]) -> None:
    module, values = layer(mode, bidirectional=False, batch_first=False), batch()
    whole = module(values)[0]
    with autocast():
        first, state = recurrent(module, values[:2])
        second, _ = recurrent(module, values[2:], state)
    assert len(lacking) == 1
    torch.testing.assert_close(torch.cat([first, second]).float(), whole, rtol=0, atol=0.01)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, *LOW])
def test_without_autocast_it_is_the_layer(dtype: torch.dtype, lacking: list[str]) -> None:
    module, values = layer("LSTM").to(dtype), batch().to(dtype)
    for part, own in zip(parts(recurrent(module, values)), parts(module(values)), strict=True):
        assert part.dtype == dtype
        assert torch.equal(part, own)
    assert lacking == []


def test_autocast_leaves_float64_as_it_is() -> None:
    module, values = layer("LSTM").double(), batch().double()
    with autocast():
        found = recurrent(module, values)
    assert all(torch.equal(part, own) for part, own in zip(parts(found), parts(module(values)), strict=True))


def test_asking_changes_no_random_state_and_may_happen_anywhere() -> None:
    before = torch.get_rng_state()
    answers = set()
    for context in (torch.enable_grad(), torch.no_grad(), torch.inference_mode(), autocast()):
        layers._trains.cache_clear()
        with context:
            answers.add(has_recurrent_kernel("LSTM", "cpu", torch.bfloat16))
    assert len(answers) == 1
    assert torch.equal(torch.get_rng_state(), before)


def test_a_device_out_of_memory_says_nothing_of_its_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any) -> Any:
        raise torch.OutOfMemoryError("out of memory")

    there = has_recurrent_kernel("LSTM", "cpu", torch.bfloat16)
    layers._trains.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(torch._VF, "lstm", full)
        with pytest.raises(torch.OutOfMemoryError):
            has_recurrent_kernel("LSTM", "cpu", torch.bfloat16)
    assert has_recurrent_kernel("LSTM", "cpu", torch.bfloat16) == there
