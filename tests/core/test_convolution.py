"""Convolution, norm, pooling and ReLU at once give what the layers give one after the other."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mmreg.convolution import conv_norm_pool, max_pool
from mmreg.layers import MaskedBatchNorm, length_mask

CASES: dict[str, dict[str, Any]] = {
    "one channel": {"channels": 1},
    "many channels": {"channels": 5},
    "a gradient of the input": {"channels": 1, "input_gradient": True},
    "columns that fill no window": {"channels": 5, "size": (5, 7), "ceil_mode": True},
    "columns that are dropped": {"channels": 1, "size": (5, 7)},
    "one row, and windows of columns": {"channels": 2, "size": (1, 7), "pool": (1, 2)},
    "a stride and a larger kernel": {"channels": 1, "size": (9, 8), "kernel": 5, "stride": 2},
    "lengths": {"channels": 5, "size": (4, 8), "lengths": [8, 5, 4, 1], "ceil_mode": True},
    "lengths of one channel": {"channels": 1, "size": (5, 7), "lengths": [7, 2, 3, 6], "ceil_mode": True},
    "lengths without an own last window": {"channels": 1, "size": (5, 7), "lengths": [7, 2, 3, 6]},
    "lengths below the longest": {"channels": 3, "size": (3, 9), "lengths": [6, 2, 3, 1], "ceil_mode": True},
}


def layers(channels: int, kernel: int, stride: int, weight: str) -> tuple[nn.Conv2d, MaskedBatchNorm]:
    conv = nn.Conv2d(channels, 6, kernel, stride, padding=kernel // 2, bias=False).double()
    norm = MaskedBatchNorm(6).double()
    assert norm.running_mean is not None
    assert norm.running_var is not None
    with torch.no_grad():
        norm.weight.copy_(torch.rand(6) + 0.5)
        if weight == "some negative":
            norm.weight[1::2] *= -1
        norm.bias.copy_(torch.randn(6))
        norm.running_mean.copy_(torch.randn(6))
        norm.running_var.copy_(torch.rand(6) + 0.5)
    return conv, norm


def one_by_one(conv: nn.Conv2d, norm: MaskedBatchNorm, values: Tensor, mask: Tensor | None, **options: Any) -> Tensor:
    """The same by torch's layers, the norm's statistics written out."""
    found = conv(values)
    valid = torch.ones_like(found[:, :1]) if mask is None else mask[:, None, None, :].expand_as(found[:, :1])
    count = valid.sum()
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None
    assert variance is not None
    if norm.training:
        of_batch = (found * valid).sum((0, 2, 3)) / count
        spread = ((found - of_batch[:, None, None]).square() * valid).sum((0, 2, 3))
        with torch.no_grad():
            mean.copy_(0.9 * mean + 0.1 * of_batch)
            variance.copy_(0.9 * variance + 0.1 * spread / (count - 1))
        mean, variance = of_batch, spread / count
    normalised = (found - mean[:, None, None]) / (variance + norm.eps).sqrt()[:, None, None]
    normalised = (normalised * norm.weight[:, None, None] + norm.bias[:, None, None]) * valid
    return nn.functional.max_pool2d(normalised, **options).relu()


@pytest.mark.parametrize("weight", ["positive", "some negative"])
@pytest.mark.parametrize("training", [True, False], ids=["training", "in use"])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_it_gives_what_the_layers_give_with_all_gradients(case: dict[str, Any], training: bool, weight: str) -> None:
    torch.manual_seed(0)
    pool, ceil_mode = case.get("pool", (2, 2)), case.get("ceil_mode", False)
    conv, norm = layers(case["channels"], case.get("kernel", 3), case.get("stride", 1), weight)
    norm.train(training)
    values = torch.randn(4, case["channels"], *case.get("size", (6, 8)), dtype=torch.float64)
    mask = None
    if "lengths" in case:
        mask = length_mask(torch.tensor(case["lengths"]), values.shape[-1])
        values = values * mask[:, None, None, :]
    outcomes = []
    for function, options in (
        (conv_norm_pool, {"pool": pool, "ceil_mode": ceil_mode}),
        (one_by_one, {"kernel_size": pool, "ceil_mode": ceil_mode}),
    ):
        own_conv, own_norm = layers(case["channels"], case.get("kernel", 3), case.get("stride", 1), weight)
        own_conv.load_state_dict(conv.state_dict())
        own_norm.load_state_dict(norm.state_dict())
        own_norm.train(training)
        own = values.clone().requires_grad_(case["channels"] > 1 or "input_gradient" in case)
        result = function(own_conv, own_norm, own, mask, **options)  # type: ignore[operator]
        (result * torch.linspace(-1, 1, result.numel(), dtype=torch.float64).view_as(result)).sum().backward()
        of_values = None
        if own.grad is not None:
            of_values = own.grad if mask is None else own.grad * mask[:, None, None, :]
        state = dict(own_norm.named_buffers())
        state.pop("num_batches_tracked")
        gradients = [own_conv.weight.grad, own_norm.weight.grad, own_norm.bias.grad, of_values]
        outcomes.append([result, *gradients, *state.values()])
    for ours, reference in zip(*outcomes, strict=True):
        torch.testing.assert_close(ours, reference, rtol=1e-9, atol=1e-11)


def test_the_gradients_are_those_of_differences() -> None:
    torch.manual_seed(0)
    conv, norm = layers(2, 3, 1, "some negative")
    mask = length_mask(torch.tensor([5, 3]), 5)
    values = torch.randn(2, 2, 4, 5, dtype=torch.float64)

    def result(own: Tensor) -> Tensor:
        return conv_norm_pool(conv, norm, own * mask[:, None, None, :], mask, ceil_mode=True)

    assert torch.autograd.gradcheck(result, (values.requires_grad_(),))  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("lengths", [None, [1]])
def test_a_single_position_uses_the_running_statistics(lengths: list[int] | None) -> None:
    conv, norm = layers(1, 3, 1, "positive")
    values = torch.ones(1, 1, 1, 1 if lengths is None else 4, dtype=torch.float64)
    mask = None if lengths is None else length_mask(torch.tensor(lengths), 4)
    if mask is not None:
        values = values * mask[:, None, None, :]
    before = {name: value.clone() for name, value in norm.named_buffers()}
    result = conv_norm_pool(conv, norm, values, mask, pool=(1, 2), ceil_mode=True)
    torch.testing.assert_close(result, conv_norm_pool(conv, norm.eval(), values, mask, pool=(1, 2), ceil_mode=True))
    assert norm.running_mean is not None
    torch.testing.assert_close(norm.running_mean, before["running_mean"])


@pytest.mark.parametrize("momentum", [0.1, None])
def test_the_norm_counts_batches_as_torch_does(momentum: float | None) -> None:
    torch.manual_seed(0)
    conv, norm = layers(3, 3, 1, "positive")
    other = nn.BatchNorm2d(6, momentum=momentum).double()
    other.load_state_dict(norm.state_dict())
    norm.momentum = momentum
    for _ in range(3):
        values = torch.randn(4, 3, 6, 6, dtype=torch.float64)
        conv_norm_pool(conv, norm, values)
        other(conv(values))
    for ours, theirs in zip(norm.buffers(), other.buffers(), strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("lengths", [[20, 10, 5, 3], [20, 20, 20, 20], [40, 39, 38, 2]], ids=str)
@pytest.mark.parametrize("channels", [1, 4])
@pytest.mark.parametrize("mean", [0.0, 1.0, 10.0, 1000.0])
def test_statistics_far_from_zero_are_as_good_as_torchs(mean: float, channels: int, lengths: list[int]) -> None:
    """In single precision, against the layers one by one in double precision, and their own error in single."""
    torch.manual_seed(0)
    mask = length_mask(torch.tensor(lengths), 40)
    values = (mean + torch.randn(4, channels, 8, 40)) * mask[:, None, None, :]
    conv = nn.Conv2d(channels, 4, 3, padding=1, bias=False)
    with torch.no_grad():  # of the middle alone, as the zeros beyond an edge would raise the variance
        conv.weight *= torch.tensor([0.0, 1.0, 0.0]).outer(torch.tensor([0.0, 1.0, 0.0]))

    def outcome(function: Any, dtype: torch.dtype) -> list[Tensor]:
        own_conv, norm = copy.deepcopy(conv).to(dtype), MaskedBatchNorm(4).to(dtype)
        own = values.to(dtype, copy=True).requires_grad_(channels > 1)
        result = function(own_conv, norm, own, mask)
        (result * torch.linspace(-1, 1, result.numel(), dtype=dtype).view_as(result)).sum().backward()
        assert norm.running_mean is not None
        assert norm.running_var is not None
        found = [result, own_conv.weight.grad, norm.weight.grad, norm.bias.grad, norm.running_mean, norm.running_var]
        if own.grad is not None:
            found.append(own.grad * mask[:, None, None, :])
        return [each.detach().double() for each in found]  # type: ignore[union-attr]

    def layer_by_layer(conv: nn.Conv2d, norm: MaskedBatchNorm, own: Tensor, mask: Tensor) -> Tensor:
        return nn.functional.max_pool2d(norm(conv(own), mask[:, None, None, :]), 2).relu()

    truth = outcome(layer_by_layer, torch.float64)
    plain, ours = outcome(layer_by_layer, torch.float32), outcome(conv_norm_pool, torch.float32)
    for true, usual, found in zip(truth, plain, ours, strict=True):
        scale = true.abs().max()
        assert (found - true).abs().max() <= 2 * (usual - true).abs().max() + 1e-4 * scale


def test_reduced_precision_goes_layer_by_layer() -> None:
    conv, norm = layers(1, 3, 1, "positive")
    values = torch.randn(4, 1, 6, 8)
    with torch.autocast("cpu", torch.bfloat16):
        assert conv_norm_pool(conv.float(), norm.float(), values).dtype == torch.bfloat16


@pytest.mark.parametrize("ceil_mode", [False, True])
def test_max_pooling_is_exported_for_odd_and_even_sizes(ceil_mode: bool) -> None:
    class Pool(nn.Module):
        def forward(self, values: Tensor) -> Tensor:
            return max_pool(values, (1, 2), ceil_mode)

    dynamic, static = torch.export.Dim.DYNAMIC, torch.export.Dim.STATIC
    example = torch.randn(2, 3, 4, 11)
    shapes = ({0: dynamic, 1: static, 2: static, 3: dynamic},)
    exported = torch.export.export(Pool(), (example,), dynamic_shapes=shapes).module()
    for width in (4, 7, 10):
        values = torch.randn(3, 3, 4, width)
        wanted = nn.functional.max_pool2d(values, (1, 2), ceil_mode=ceil_mode)
        assert torch.equal(exported(values), wanted)
