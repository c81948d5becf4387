"""Shapley values and interactions of many players, estimated from random orders of them.

Axes: B games, n players, S coalitions, Q rounds of orders, each of which is an estimate by itself.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mmreg_explain.shapley import with_own

ROUNDS = 8
"""Rounds of n orders: for 12 players about 700 of 4,096 coalitions; for 20 about 2,600 of a million."""


class SampledCoalitions:
    """Coalitions along random orders of the players, in which each joins those before it.

    A player's Shapley value is the mean of what it adds to those before it. A pair's interaction is the mean over the
    orders in which the two stand side by side: those before them are then distributed as the Shapley interaction index
    weighs them. Each round is a Williams square (Williams 1949) with the players assigned at random: n orders in which
    everyone has every place once and every pair stands side by side twice. Any one order is as likely as any other, so
    each round is an unbiased estimate, and what all players are worth together is shared out exactly.

    Args:
        players: n, at least 2.
        rounds: Q, at least 2 so that errors can be told.
        seed: of the orders.
    """

    def __init__(self, players: int, rounds: int = ROUNDS, seed: int = 0) -> None:
        random = np.random.default_rng(seed)
        square = williams(players)
        self.orders: NDArray[np.int64] = np.stack([random.permutation(players)[square] for _ in range(rounds)])
        self._numbers: dict[bytes, int] = {}
        self._members: list[NDArray[np.bool_]] = []
        self._number(np.zeros(players, bool))
        # Along each order (Q, n, n + 1) those before each place, and (Q, n, n - 1) those with the next but one instead.
        self._walks = np.zeros((rounds, players, players + 1), np.int64)
        self._skips = np.zeros((rounds, players, players - 1), np.int64)
        for place in np.ndindex(rounds, players):
            self._walk(place)
        self._walks[..., -1] = -1  # that of all is the last one
        self._number(np.ones(players, bool))

    @property
    def members(self) -> NDArray[np.bool_]:
        """(S, n), who is in each coalition; the last one is of all, the first of none."""
        return np.stack(self._members)

    def attribute(self, worths: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """See `Coalitions.attribute`."""
        rounds, n = self.orders.shape[:2]
        shapley = np.zeros((rounds, worths.shape[1], n))
        interactions = np.zeros((rounds, worths.shape[1], n, n))
        for number, orders in enumerate(self.orders):
            for order, walk, skip in zip(orders, self._walks[number], self._skips[number], strict=True):
                along = worths[walk]
                shapley[number][:, order] += np.diff(along, axis=0).T / n
                first, second = order[:-1], order[1:]
                pairs = (along[2:] - along[1:-1] - worths[skip] + along[:-2]).T / 4  # twice a round, and half for each
                interactions[number][:, first, second] += pairs
                interactions[number][:, second, first] += pairs
        return shapley, with_own(shapley, interactions)

    def _walk(self, place: tuple[int, ...]) -> None:
        order, inside = self.orders[place], np.zeros(self.orders.shape[-1], bool)
        for step, player in enumerate(order):
            self._walks[place][step] = self._number(inside)
            if step + 1 < len(order):
                instead = inside.copy()
                instead[order[step + 1]] = True
                self._skips[place][step] = self._number(instead)
            inside[player] = True

    def _number(self, inside: NDArray[np.bool_]) -> int:
        """The place of a coalition among those that are asked."""
        key = inside.tobytes()
        if key not in self._numbers:
            self._numbers[key] = len(self._members)
            self._members.append(inside.copy())
        return self._numbers[key]


def williams(players: int) -> NDArray[np.int64]:
    """Orders (n, n) of n players in which each player has every place once, and each pair stands side by side twice.

    Example:
        >>> williams(4).tolist()
        [[0, 3, 1, 2], [1, 0, 2, 3], [2, 1, 3, 0], [3, 2, 0, 1]]
    """
    zigzag = [-(k // 2 + 1) if k % 2 == 0 else k // 2 + 1 for k in range(players - 1)]
    first = np.array([0, *zigzag])
    square: NDArray[np.int64] = (first[None, :] + np.arange(players)[:, None]) % players
    return square


def standard_error(estimates: NDArray[np.float64]) -> NDArray[np.float64]:
    """The standard error (...) of the mean of Q independent estimates (Q, ...)."""
    error: NDArray[np.float64] = estimates.std(0, ddof=1) / np.sqrt(len(estimates))
    return error
