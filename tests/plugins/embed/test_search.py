"""The nearest vectors, beside numpy's and the graph's."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from mmreg.errors import MmregError, OptionError
from mmreg_embed import search
from mmreg_embed.search import approximate, nearest

RANDOM = np.random.default_rng(0)
CANDIDATES = RANDOM.normal(size=(300, 8)).astype(np.float32) * RANDOM.uniform(0.2, 3, size=(300, 1)).astype(np.float32)
QUERIES = RANDOM.normal(size=(40, 8)).astype(np.float32)
NUMBERS = np.sort(RANDOM.choice(1000, 300, replace=False))


def blocks(size=70, candidates=CANDIDATES, numbers=NUMBERS):
    for first in range(0, len(candidates), size):
        yield numbers[first : first + size], torch.from_numpy(candidates[first : first + size])


def reference(queries, measure):
    left, right = (each.astype(np.float64) for each in (queries, CANDIDATES))
    if measure == "cosine":
        left, right = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in (left, right))
    return left @ right.T


@pytest.mark.parametrize("measure", ["cosine", "dot"])
@pytest.mark.parametrize("part", [1, 1 << 22])
def test_the_nearest_are_those_of_a_whole_matrix(measure, part, monkeypatch):
    monkeypatch.setattr(search, "PART", part)
    found, similar = nearest(torch.from_numpy(QUERIES), blocks(), 7, measure=measure)
    expected = reference(QUERIES, measure)
    order = np.argsort(-expected, 1)[:, :7]
    np.testing.assert_array_equal(found, NUMBERS[order])
    np.testing.assert_allclose(similar, np.take_along_axis(expected, order, 1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("find", [nearest, lambda *given, **named: approximate(*given, size=300, **named)])
def test_a_query_that_is_a_candidate_is_not_its_own_neighbour(find):
    if find is not nearest:
        pytest.importorskip("hnswlib")
    own = NUMBERS[:40].copy()
    own[3] = -1
    found, _ = find(torch.from_numpy(CANDIDATES[:40]), blocks(), 4, own=own)
    assert found[3, 0] == NUMBERS[3]
    assert not (found == np.where(np.arange(40) == 3, -5, own)[:, None]).any()
    assert (found >= 0).all()


def test_of_equal_vectors_the_earlier_comes_first():
    same = np.ones((10, 2), np.float32)
    found, _ = nearest(torch.ones(1, 2), blocks(1, same, np.arange(10)), 4)
    assert found.tolist() == [[0, 1, 2, 3]]


@pytest.mark.parametrize("graph", [False, True])
def test_where_there_are_fewer_than_wanted_the_rest_is_empty(graph):
    few = list(blocks(5, CANDIDATES[:3], NUMBERS[:3]))
    if graph:
        pytest.importorskip("hnswlib")
        found, similar = approximate(torch.from_numpy(QUERIES[:2]), few, 5, size=3, own=np.array([NUMBERS[0], -1]))
    else:
        found, similar = nearest(torch.from_numpy(QUERIES[:2]), few, 5, own=np.array([NUMBERS[0], -1]))
    assert (found >= 0).sum(1).tolist() == [2, 3]
    assert np.isneginf(similar[found < 0]).all()


def test_a_vector_of_zeros_is_like_no_other():
    _, similar = nearest(torch.zeros(1, 8), blocks(), 3)
    assert similar.tolist() == [[0, 0, 0]]


@pytest.mark.parametrize("measure", ["cosine", "dot"])
def test_the_graph_finds_nearly_all(measure):
    pytest.importorskip("hnswlib")
    exact, near = nearest(torch.from_numpy(QUERIES), blocks(), 10, measure=measure)
    found, similar = approximate(torch.from_numpy(QUERIES), blocks(), 10, size=300, measure=measure)
    recall = np.mean(
        [len(set(left) & set(right)) / 10 for left, right in zip(exact.tolist(), found.tolist(), strict=True)]
    )
    assert recall >= 0.95
    np.testing.assert_allclose(similar[exact == found], near[exact == found], rtol=1e-4, atol=1e-5)


def test_without_hnswlib_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "hnswlib", None)
    with pytest.raises(MmregError, match=r"pip install 'mmreg\[neighbours\]'"):
        approximate(torch.from_numpy(QUERIES), blocks(), 3, size=300)


def test_an_unknown_measure_is_refused():
    with pytest.raises(OptionError, match="cosine or dot, found 'angle'"):
        nearest(torch.from_numpy(QUERIES), blocks(), 3, measure="angle")


def test_vectors_of_other_sizes_are_refused() -> None:
    with pytest.raises(OptionError, match="vectors of 3 numbers cannot be compared with those of 4"):
        nearest(torch.ones(1, 3), [(np.arange(2), torch.ones(2, 4))], 1)
