"""Ranks and recalls, against what they are by definition."""

import itertools
import statistics

import numpy as np
import pytest
import torch

from mmreg_tasks import retrieval
from mmreg_tasks.info_nce import unit_vectors


def random_pairs(rows=40, size=6, seed=0, noise=0.7):
    generator = torch.Generator().manual_seed(seed)
    left = torch.randn(rows, size, generator=generator)
    right = left + noise * torch.randn(rows, size, generator=generator)
    return unit_vectors(left), unit_vectors(right)


def ranks(left, right):
    """The rank of each row's partner by sorting all, in float64, where nothing is tied."""
    similar = left.double().numpy() @ right.double().numpy().T
    order = np.argsort(-similar, axis=1)
    return np.array([np.flatnonzero(order[row] == row)[0] + 1 for row in range(len(order))])


@pytest.mark.parametrize("part", [10**9, 40 * 7])
def test_figures_of_both_directions_are_those_of_sorted_similarities(monkeypatch, part):
    monkeypatch.setattr(retrieval, "PART", part)
    left, right = random_pairs()
    found = [retrieval.figures(*places) for places in retrieval.placed(left, right)]
    for figures, (source, sought) in zip(found, ((left, right), (right, left)), strict=True):
        expected = ranks(source, sought)
        assert figures["mrr"] == pytest.approx((1 / expected).mean())
        assert figures["median_rank"] == np.median(expected)
        for k in (1, 5, 10):
            assert figures[f"recall_at_{k}"] == pytest.approx((expected <= k).mean())


def test_ties_count_as_broken_at_random():
    left = torch.eye(4)[[0, 0, 1, 2, 3]]
    right = torch.eye(4)[[0, 0, 0, 2, 1]]  # the first three rows' are equal; the third's partner is not like it
    similar = (left @ right.T).tolist()
    (places, _) = retrieval.placed(left, right)
    drawn = [[] for _ in range(5)]
    for order in itertools.permutations(range(5)):
        for row in range(5):
            first = sorted(order, key=lambda other, row=row: -similar[row][other])
            drawn[row].append(first.index(row) + 1)
    expected = {f"recall_at_{k}": statistics.mean(r <= k for each in drawn for r in each) for k in (1, 5, 10)}
    expected["mrr"] = statistics.mean(1 / r for each in drawn for r in each)
    expected["median_rank"] = statistics.median(statistics.mean(each) for each in drawn)
    assert retrieval.figures(*places) == pytest.approx(expected)


@pytest.mark.parametrize("rows", [1, 2, 30])
def test_a_collapsed_model_is_as_good_as_chance(rows):
    same = torch.tensor([[0.6, 0.8]]).repeat(rows, 1)
    for places in retrieval.placed(same, same):
        figures = retrieval.figures(*places)
        for k in (1, 5, 10):
            assert figures[f"recall_at_{k}"] == pytest.approx(min(1, k / rows))
        assert figures["median_rank"] == (rows + 1) / 2


def test_what_float32_rounds_differently_is_still_a_tie():
    left = unit_vectors(torch.randn(6, 50, generator=torch.Generator().manual_seed(0)))
    left[1] = left[0]
    right = left.clone()
    right[1] += 1e-7 * torch.randn(50, generator=torch.Generator().manual_seed(1))
    (_, tied), _ = retrieval.placed(left, right)
    assert tied.tolist() == [1, 1, 0, 0, 0, 0]


def test_memory_grows_with_rows_and_not_with_their_square():
    left, right = random_pairs(rows=6000, size=4)
    sizes = []

    class Looks(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            made = function(*args, **(kwargs or {}))
            if isinstance(made, torch.Tensor):
                sizes.append(made.numel())
            return made

    with Looks():
        retrieval.placed(left, right)
    assert max(sizes) <= retrieval.PART < 6000**2
