"""Pooling of a row's values: by the formulas, whatever their order and whatever other rows have, without padding."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mmreg import Features, Signal
from mmreg.data.segments import Segments
from mmreg.model import pooling
from mmreg.model.pooling import ValuePooling, encoded_in_parts, sinusoids

COUNTS = np.array([3, 1, 4, 2])
SIZE = 6


def values(counts: np.ndarray[Any, Any] = COUNTS, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(int(counts.sum()), SIZE, dtype=dtype, generator=torch.Generator().manual_seed(0))


def made(kind: Any, ordered: bool = False, dtype: torch.dtype = torch.float64) -> ValuePooling:
    torch.default_generator.manual_seed(1)
    return ValuePooling(kind, SIZE, ordered).to(dtype)


def pooled(module: ValuePooling, given: Tensor, counts: np.ndarray[Any, Any] = COUNTS) -> Tensor:
    features = module(Features(pooled=given), Segments.of(counts))
    result = features.tokens if module.kind == "tokens" else features.pooled
    assert result is not None
    return result


def by_hand(module: ValuePooling, row: Tensor) -> Tensor:
    """What one row's values (k, D) become."""
    if module.place_scale is not None:
        row = row.clone()
        for place in range(len(row)):
            for feature in range(SIZE):
                angle = place / 10_000 ** ((feature // 2) / (SIZE // 2))
                added = math.sin(angle) if feature % 2 == 0 else math.cos(angle)
                row[place, feature] += module.place_scale.item() * added
    if module.attention is not None:
        weight, bias = module.attention.project.weight, module.attention.project.bias
        logits = torch.stack([module.attention.score.weight[0] @ torch.tanh(weight @ value + bias) for value in row])
        shares = logits.exp() / logits.exp().sum()
        return sum((share * value for share, value in zip(shares, row, strict=True)), torch.zeros(SIZE))
    return row if module.kind == "tokens" else row.mean(0) if module.kind == "mean" else row.max(0).values


KINDS = [
    ("mean", False),
    ("max", False),
    ("attention", False),
    ("attention", True),
    ("tokens", False),
    ("tokens", True),
]


@pytest.mark.parametrize(("kind", "ordered"), KINDS)
def test_it_is_what_the_formulas_give(kind: str, ordered: bool) -> None:
    module, given = made(kind, ordered), values()
    if module.place_scale is not None:
        module.place_scale.data.fill_(0.7)
    found = pooled(module, given)
    for row, each in zip(found, given.split(COUNTS.tolist()), strict=True):
        expected = by_hand(module, each)
        own = row[: len(each)] if kind == "tokens" else row
        torch.testing.assert_close(own, expected, rtol=1e-6, atol=1e-6 if ordered else 1e-12)  # places are float32


def test_tokens_come_first_and_the_mask_tells_them() -> None:
    features = made("tokens")(Features(pooled=values()), Segments.of(COUNTS))
    assert features.pooled is None
    assert features.mask is not None
    assert features.mask.sum(1).tolist() == COUNTS.tolist()
    assert features.mask[:, 0].all()
    assert features.tokens is not None
    assert (features.tokens[~features.mask] == 0).all()


@pytest.mark.parametrize(("kind", "ordered"), KINDS)
def test_the_order_of_values_counts_where_it_is_to_alone(kind: str, ordered: bool) -> None:
    module, given = made(kind, ordered), values()
    turned = torch.cat([row.flip(0) for row in given.split(COUNTS.tolist())])
    one, other = pooled(module, given), pooled(module, turned)
    if kind == "tokens":
        one, other = one.sum(1), other.sum(1)  # a set of tokens
    same = torch.allclose(one, other, rtol=1e-12, atol=1e-12)
    assert same is (not ordered or kind == "tokens")
    if kind == "tokens":
        first, last = pooled(module, given)[0, 0], pooled(module, turned)[0, 2]
        assert torch.equal(first, last) is not ordered


@pytest.mark.parametrize(("kind", "ordered"), KINDS)
def test_a_row_is_what_it_is_alone_whatever_others_have(kind: str, ordered: bool) -> None:
    module, given = made(kind, ordered), values()
    together = pooled(module, given)
    for number, row in enumerate(given.split(COUNTS.tolist())):
        alone = pooled(module, row, COUNTS[number : number + 1])[0]
        own = together[number, : len(row)] if kind == "tokens" else together[number]
        torch.testing.assert_close(own, alone, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", ["mean", "max", "attention"])
def test_a_single_value_is_the_row(kind: str, dtype: torch.dtype) -> None:
    given = values(np.ones(5, np.int64), dtype)
    found = pooled(made(kind, dtype=dtype), given, np.ones(5, np.int64))
    assert found.dtype == dtype
    assert torch.equal(found, given)


@pytest.mark.parametrize(("kind", "ordered"), KINDS)
def test_the_gradient_is_that_of_the_formula(kind: str, ordered: bool) -> None:
    module, given = made(kind, ordered), values().requires_grad_()
    inputs = (given, *module.parameters())

    def function(*_: Tensor) -> Tensor:
        return pooled(module, given)

    if ordered:  # whose places are float32
        function().square().sum().backward()
        assert all(each.grad is not None and (each.grad != 0).any() for each in inputs)
    else:
        assert torch.autograd.gradcheck(function, inputs)


def test_attention_stands_large_logits_and_sums_of_reduced_precision() -> None:
    module = made("attention", dtype=torch.float32)
    assert module.attention is not None
    module.attention.score.weight.data.mul_(1e4)
    assert torch.isfinite(pooled(module, values(dtype=torch.float32))).all()
    many = np.array([5000])
    mean = pooled(made("mean"), torch.full((5000, SIZE), 3.0, dtype=torch.bfloat16), many)
    assert torch.equal(mean, torch.full((1, SIZE), 3.0, dtype=torch.bfloat16))


def test_a_row_of_very_many_values_takes_no_more_than_there_are() -> None:
    counts = np.array([1000, *[1] * 63])
    sizes: list[int] = []

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            found = function(*args, **(kwargs or {}))
            sizes.extend(
                each.numel() for each in (found if isinstance(found, tuple) else [found]) if torch.is_tensor(each)
            )
            return found

    given = values(counts, torch.float32)
    for kind in ("mean", "max", "attention"):
        with Watch():
            pooled(made(kind, dtype=torch.float32), given, counts)
    assert 0 < max(sizes) <= given.numel()


def test_in_use_values_are_encoded_a_part_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pooling, "AT_ONCE", 4)
    seen: list[Signal[Any]] = []

    def encoder(signal: Signal[Any]) -> Features:
        seen.append(signal)
        return Features(pooled=signal.values["v"] * signal.lengths[:, None])

    lengths = torch.arange(1, 11)
    whole = Signal({"v": torch.randn(10, 3)}, lengths, lengths)
    found = encoded_in_parts(encoder, whole)  # type: ignore[arg-type]
    assert [len(part) for part in seen] == [4, 4, 2]
    assert [part.host_lengths.tolist()[0] for part in seen if part.host_lengths is not None] == [1, 5, 9]
    assert found.pooled is not None
    assert torch.equal(found.pooled, whole.values["v"] * lengths[:, None])


def test_places_differ_from_each_other() -> None:
    rows = sinusoids(torch.arange(1000), 7)
    assert rows.shape == (1000, 7)
    assert torch.cdist(rows, rows).add(torch.eye(1000) * 9).min() > 1e-3
