"""Layers on accelerators: the same results by ways that never wait for the device to say how much is valid."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from mmreg import layers
from mmreg.layers import MaskedBatchNorm, length_mask, recurrent_states

CELLS = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}
LENGTHS = torch.tensor([6, 2, 1, 4])


class Waits(TorchDispatchMode):
    """Counts the operations whose result the host would wait for."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func._schema.name in {"aten::nonzero", "aten::_local_scalar_dense", "aten::masked_select"}:
            self.found.append(func._schema.name)
        return func(*args, **(kwargs or {}))


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """All runs as on an accelerator."""
    monkeypatch.setattr(layers, "on_host", lambda values: False)


@contextmanager
def unwaited() -> Iterator[None]:
    """What never waits for a device."""
    with Waits() as waits:
        yield
    assert waits.found == []


def values(*size: int) -> Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def run(module: nn.Module, inputs: Tensor, *arguments: Any) -> list[Tensor]:
    """Result, gradients of inputs and parameters, and buffers after a step of training."""
    module.train()
    inputs = inputs.clone().requires_grad_()
    result = module(inputs, *arguments)
    weights = torch.linspace(-1, 1, result.numel(), dtype=result.dtype).view_as(result)
    (result * weights).sum().backward()
    gradients = [parameter.grad for parameter in module.parameters()]
    return [result.detach(), inputs.grad, *gradients, *module.buffers()]


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("lengths", [LENGTHS, torch.tensor([1, 0, 0, 0]), torch.zeros(4, dtype=torch.long)])
def test_masked_norms_by_sums_are_those_of_the_gathered_positions(lengths: Tensor, momentum: float | None) -> None:
    norm = MaskedBatchNorm(3, momentum=momentum).double()
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([0.5, 2.0, -1.0]))
        norm.bias.copy_(torch.tensor([0.1, 0.0, 3.0]))
        norm.running_mean.add_(0.3)
    mask = length_mask(lengths, 6)[:, None, None, :]
    if lengths.max() == 1:
        mask = mask & (torch.arange(2) == 0)[:, None]  # a single value
    reference = copy.deepcopy(norm)
    inputs = values(4, 3, 2, 6)
    with unwaited():
        ours = run(norm, inputs, mask)
    theirs = run((Gathered if mask.expand(-1, 1, 2, 6).sum() > 1 else Running)(reference), inputs, mask)
    for found, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-12, rtol=1e-10)


class Gathered(nn.Module):
    """The norm as written by torch, over the valid positions alone."""

    def __init__(self, norm: MaskedBatchNorm) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(3, momentum=norm.momentum).double()
        self.norm.load_state_dict(norm.state_dict())

    def forward(self, inputs: Tensor, mask: Tensor) -> Tensor:
        rows = inputs.movedim(1, -1)
        valid = mask.expand(inputs.shape[0], 1, *inputs.shape[2:])[:, 0]
        result = torch.zeros_like(rows)
        result[valid] = self.norm(rows[valid])
        return result.movedim(-1, 1)


class Running(Gathered):
    """The norm by its running statistics, which a single value does not change."""

    def forward(self, inputs: Tensor, mask: Tensor) -> Tensor:
        norm = self.norm
        result = nn.functional.batch_norm(
            inputs, norm.running_mean, norm.running_var, norm.weight, norm.bias, False, 0.0, norm.eps
        )
        return result.masked_fill(~mask, 0)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("num_layers", [1, 2])
def test_rows_read_from_their_own_end_are_those_of_a_packed_sequence(cell: str, num_layers: int) -> None:
    torch.manual_seed(0)
    layer = CELLS[cell](3, 5, num_layers, batch_first=True, bidirectional=True).double()
    inputs = values(4, 6, 3)
    with unwaited():
        ours = run(States(layer), inputs, LENGTHS)
    layer.zero_grad()
    packed = nn.utils.rnn.pack_padded_sequence
    reference = run(Packed(layer, packed), inputs, LENGTHS)
    valid = length_mask(LENGTHS, 6)
    torch.testing.assert_close(ours[0][valid], reference[0][valid], atol=1e-12, rtol=1e-10)
    for found, expected in zip(ours[1:], reference[1:], strict=True):
        torch.testing.assert_close(found, expected, atol=1e-10, rtol=1e-8)


class States(nn.Module):
    """The states at valid steps; zeros elsewhere."""

    def __init__(self, layer: nn.RNNBase) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        states = recurrent_states(self.layer, inputs, lengths)
        return states.masked_fill(~length_mask(lengths, inputs.shape[1]).unsqueeze(-1), 0)


class Packed(States):
    """The same by torch's own packed sequences."""

    def __init__(self, layer: nn.RNNBase, pack: Any) -> None:
        super().__init__(layer)
        self.pack = pack

    def forward(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        states, _ = self.layer(self.pack(inputs, lengths, batch_first=True, enforce_sorted=False))
        return nn.utils.rnn.pad_packed_sequence(states, batch_first=True, total_length=inputs.shape[1])[0]


@pytest.mark.parametrize("bidirectional", [False, True])
def test_dropout_between_layers_is_drawn_from_the_state_that_is_seeded(bidirectional: bool) -> None:
    layer = nn.LSTM(3, 5, 2, batch_first=True, dropout=0.5, bidirectional=bidirectional).double()
    first, again, other = (drawn(layer, seed) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    lower, upper = (nn.LSTM(size, 5, 1, batch_first=True, bidirectional=bidirectional).double() for size in (3, 5))
    if not bidirectional:
        for number, part in enumerate((lower, upper)):
            part.load_state_dict(
                {
                    name.replace(f"l{number}", "l0"): own
                    for name, own in layer.state_dict().items()
                    if f"l{number}" in name
                }
            )
        torch.manual_seed(1)
        expected = upper(nn.functional.dropout(lower(values(4, 6, 3))[0], 0.5))[0]
        torch.testing.assert_close(first, expected, atol=1e-12, rtol=1e-10)


def drawn(layer: nn.LSTM, seed: int) -> Tensor:
    torch.manual_seed(seed)
    return recurrent_states(layer, values(4, 6, 3))


def test_unseeded_evaluation_has_no_dropout() -> None:
    layer = nn.LSTM(3, 5, 2, batch_first=True, dropout=0.5).double().eval()
    torch.testing.assert_close(recurrent_states(layer, values(4, 6, 3)), layer(values(4, 6, 3))[0])


@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize("lengths", [None, LENGTHS])
def test_under_autocast_states_are_near_those_of_full_precision(kind: str, lengths: Tensor | None) -> None:
    torch.manual_seed(0)
    layer = CELLS[kind](3, 4, batch_first=True, bidirectional=True, num_layers=2)
    inputs = values(4, 6, 3).float()
    expected = recurrent_states(layer, inputs, lengths)
    with torch.autocast("cpu", torch.bfloat16):
        found = recurrent_states(layer, inputs, lengths)
        assert torch.is_autocast_enabled("cpu")
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), expected, atol=0.03, rtol=0.03)
