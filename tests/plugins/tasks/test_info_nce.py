"""The loss of the contrastive task, against the formula as it is written."""

import math

import numpy as np
import pytest
import torch

from mmreg_tasks import info_nce as module
from mmreg_tasks.info_nce import HIGHEST, LOWEST, Temperature, info_nce, unit_vectors


def random_pairs(rows=7, size=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    draw = [torch.randn(rows, size, dtype=torch.float64, generator=generator) for _ in range(2)]
    return tuple(unit_vectors(each) for each in draw)


def plain(left, right, pairs, temperature):
    """The formula row by row, in plain floats."""
    left, right = left.tolist(), right.tolist()
    real = [at for at, each in enumerate(pairs) if each]

    def similarity(i, j):
        return sum(a * b for a, b in zip(left[i], right[j], strict=True)) / temperature

    losses = [0.0] * len(left)
    for i in real:
        there = math.log(sum(math.exp(similarity(i, j)) for j in real))
        back = math.log(sum(math.exp(similarity(j, i)) for j in real))
        losses[i] = (there + back) / 2 - similarity(i, i)
    return losses


@pytest.mark.parametrize("pairs", [[True] * 7, [True, False, True, True, False, True, True], [False] * 6 + [True]])
def test_the_loss_is_the_formula_of_the_rows_that_are_pairs(pairs):
    left, right = random_pairs()
    found = info_nce(left, right, torch.tensor(pairs), torch.tensor(0.2, dtype=torch.float64))
    np.testing.assert_allclose(found, plain(left, right, pairs, 0.2), rtol=1e-12, atol=1e-12)


def test_gradients_are_those_of_the_formula_temperature_included():
    left, right = random_pairs()
    pairs = torch.tensor([True, False, True, True, False, True, True])
    temperature = torch.tensor(0.3, dtype=torch.float64)
    for each in (left, right, temperature):
        each.requires_grad_()
    info_nce(left, right, pairs, temperature).sum().backward()
    step = 1e-6
    for tensor in (left, right, temperature):
        for at in np.ndindex(tensor.shape):
            values = []
            for sign in (1, -1):
                with torch.no_grad():
                    tensor[at] += sign * step
                    values.append(sum(plain(left, right, pairs.tolist(), float(temperature))))
                    tensor[at] -= sign * step
            expected = (values[0] - values[1]) / (2 * step)
            assert float(tensor.grad[at]) == pytest.approx(expected, abs=1e-7)
    assert not left.grad[1].any()


def test_the_order_of_rows_has_no_influence():
    left, right = random_pairs(rows=20)
    pairs, temperature = torch.rand(20, generator=torch.Generator().manual_seed(0)) < 0.7, torch.tensor(0.1).double()
    order = torch.randperm(20, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(
        info_nce(left[order], right[order], pairs[order], temperature),
        info_nce(left, right, pairs, temperature)[order],
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_batch_without_a_pair_costs_nothing_and_has_finite_gradients(dtype):
    left, right = (each.to(dtype).requires_grad_() for each in random_pairs())
    temperature = torch.tensor(0.05, dtype=dtype, requires_grad=True)
    loss = info_nce(left, right, torch.zeros(7, dtype=torch.bool), temperature)
    loss.sum().backward()
    assert not loss.any()
    for each in (left, right, temperature):
        assert each.grad.isfinite().all()
        assert not each.grad.any()


def test_many_rows_in_parts_have_the_same_loss_and_gradients(monkeypatch):
    def computed():
        left, right = (each.requires_grad_() for each in random_pairs(rows=23))
        loss = info_nce(left, right, torch.arange(23) % 3 > 0, torch.tensor(0.1, dtype=torch.float64))
        loss.sum().backward()
        return loss.detach(), left.grad, right.grad

    whole = computed()
    monkeypatch.setattr(module, "PART", 5 * 23)
    for part, expected in zip(computed(), whole, strict=True):
        torch.testing.assert_close(part, expected)


@pytest.mark.parametrize("initial", [math.nextafter(LOWEST, 1), 0.011, 0.07, 0.9, math.nextafter(HIGHEST, 0)])
def test_the_temperature_starts_where_it_should_and_never_leaves_its_bounds(initial):
    temperature = Temperature(initial).requires_grad_(requires_grad=False)
    assert float(temperature()) == pytest.approx(initial, rel=1e-5)
    for raised in (-1e4, -30.0, 30.0, 1e4):
        with torch.no_grad():
            temperature.raised.fill_(raised)
        assert LOWEST - 1e-9 <= float(temperature()) <= HIGHEST + 1e-6


def test_the_temperature_is_learned():
    left, right = random_pairs(rows=30)
    temperature = Temperature(0.07)
    optimizer = torch.optim.SGD(temperature.parameters(), lr=0.1)
    for _ in range(20):  # what matches by chance alone is best said with no confidence
        loss = info_nce(left, right, torch.ones(30, dtype=torch.bool), temperature().double()).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(temperature().detach()) > 0.1


def test_zeros_stay_zeros_with_a_finite_gradient():
    vectors = torch.tensor([[3.0, 4.0], [0.0, 0.0]], requires_grad=True)
    found = unit_vectors(vectors)
    found.sum().backward()
    np.testing.assert_allclose(found.detach(), [[0.6, 0.8], [0, 0]], rtol=1e-6)
    assert vectors.grad.isfinite().all()
