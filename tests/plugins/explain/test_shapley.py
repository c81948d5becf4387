"""Shapley values and interactions, against their definition over all orders of the players."""

from __future__ import annotations

from itertools import pairwise, permutations

import numpy as np
import pytest
from numpy.typing import NDArray

from mmreg_explain.sampling import SampledCoalitions, standard_error, williams
from mmreg_explain.shapley import AllCoalitions, intershap


def by_orders(worths: NDArray[np.float64], players: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Shapley values (n,) and the interaction index (n, n) of one game: means over all n! orders, as defined."""
    shapley, index, pairs = np.zeros(players), np.zeros((players, players)), np.zeros((players, players))
    orders = list(permutations(range(players)))
    for order in orders:
        inside = 0
        for player in order:
            shapley[player] += (worths[inside | 1 << player] - worths[inside]) / len(orders)
            inside |= 1 << player
        inside = 0
        for i, j in pairwise(order):
            i_bit, j_bit = 1 << i, 1 << j
            index[i, j] += (
                worths[inside | i_bit | j_bit] - worths[inside | i_bit] - worths[inside | j_bit] + worths[inside]
            )
            pairs[i, j] += 1
            inside |= i_bit
    return shapley, (index + index.T) / np.maximum(pairs + pairs.T, 1)


@pytest.mark.parametrize("players", [1, 2, 3, 5])
def test_exact_values_are_those_of_the_definition(players: int) -> None:
    worths = np.random.default_rng(players).normal(size=(1 << players, 3))
    shapley, interactions = AllCoalitions(players).attribute(worths)
    for game in range(3):
        expected, index = by_orders(worths[:, game], players)
        np.testing.assert_allclose(shapley[0, game], expected, atol=1e-12)
        pairs = interactions[0, game] * (1 - np.eye(players))
        np.testing.assert_allclose(2 * pairs, index, atol=1e-12)


@pytest.mark.parametrize("players", [1, 2, 4, 10])
def test_what_all_are_worth_is_shared_out(players: int) -> None:
    worths = np.random.default_rng(0).normal(size=(1 << players, 4))
    shapley, interactions = AllCoalitions(players).attribute(worths)
    np.testing.assert_allclose(shapley[0].sum(-1), worths[-1] - worths[0], atol=1e-9)
    np.testing.assert_allclose(interactions[0].sum((-1, -2)), worths[-1] - worths[0], atol=1e-9)
    np.testing.assert_allclose(interactions[0].sum(-1), shapley[0], atol=1e-9)


def test_an_exclusive_or_is_all_interaction_and_a_sum_none() -> None:
    exclusive_or = np.array([0.5, 0.5, 0.5, 1.0])[:, None]
    added = np.array([0.1, 0.4, 0.3, 0.6])[:, None]
    assert intershap(AllCoalitions(2).attribute(exclusive_or)[1][0, 0]) == pytest.approx(1.0, abs=1e-12)
    assert intershap(AllCoalitions(2).attribute(added)[1][0, 0]) == pytest.approx(0.0, abs=1e-12)


def test_intershap_of_nothing_is_not_a_number() -> None:
    assert np.isnan(intershap(np.zeros((3, 3))))


def test_a_player_that_adds_nothing_has_nothing() -> None:
    coalitions = AllCoalitions(3)
    worths = (coalitions.members[:, :2].all(1) * 2.0)[:, None]  # the third changes nothing
    shapley, interactions = coalitions.attribute(worths)
    np.testing.assert_allclose(shapley[0, 0], [1, 1, 0])
    assert not interactions[0, 0, 2].any()


@pytest.mark.parametrize("players", [2, 3, 6, 11, 12])
def test_a_round_gives_everyone_each_place_once_and_each_pair_twice_side_by_side(players: int) -> None:
    square = williams(players)
    for line in (*square, *square.T):
        assert sorted(line.tolist()) == list(range(players))
    beside = [frozenset(pair) for order in square.tolist() for pair in pairwise(order)]
    assert {beside.count(pair) for pair in beside} == {2}
    assert len(set(beside)) == players * (players - 1) // 2


def test_sampled_values_are_near_the_exact_ones_by_their_own_errors() -> None:
    worths = np.random.default_rng(3).normal(size=(1 << 5, 40))
    shapley, interactions = (each[0] for each in AllCoalitions(5).attribute(worths))
    squares = []
    for seed in range(6):
        sampled = SampledCoalitions(5, rounds=60, seed=seed)
        estimates, pairs = sampled.attribute(worths[sampled.members @ (1 << np.arange(5))])
        for estimated, exact in ((estimates, shapley), (pairs, interactions)):
            scores = (estimated.mean(0) - exact) / standard_error(estimated)
            assert np.abs(scores).max() < 6
            squares.append((scores**2).mean())
    assert 0.6 < np.mean(squares) < 1.7  # the errors are neither too small nor too large
    np.testing.assert_allclose(estimates.sum(-1), np.broadcast_to(worths[-1] - worths[0], (60, 40)), atol=1e-9)
    np.testing.assert_allclose(pairs.sum((-1, -2)), estimates.sum(-1), atol=1e-9)


@pytest.mark.parametrize("players", [11, 12])
def test_sampling_of_an_additive_game_is_exact(players: int) -> None:
    weights = np.arange(float(players))
    sampled = SampledCoalitions(players, rounds=2)
    assert not sampled.members[0].any()
    assert sampled.members[-1].all()
    assert len(sampled.members) < 1 << 9
    estimates, pairs = sampled.attribute((sampled.members @ weights)[:, None])
    np.testing.assert_allclose(estimates[:, 0], np.stack([weights] * 2), atol=1e-9)
    np.testing.assert_allclose(pairs[0, 0], np.diag(weights), atol=1e-9)
