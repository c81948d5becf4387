"""Shapley values of a few players and their pairwise interactions, from what every coalition is worth.

Axes: B games, n players, S coalitions, Q independent estimates.
"""

from __future__ import annotations

from math import factorial
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

MOST_EXACT = 10
"""Players up to which every coalition is asked: 10 have 1,024 of them."""


class Coalitions(Protocol):
    """Which coalitions have to be asked, and what follows from their worths."""

    @property
    def members(self) -> NDArray[np.bool_]:
        """(S, n), who is in each coalition; the last one is of all, the first of none."""

    def attribute(self, worths: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Shapley values and interactions.

        Args:
            worths: (S, B), what each coalition is worth in each game.

        Returns:
            (Q, B, n) Shapley values, and (Q, B, n, n) interactions, of each of Q independent estimates.
        """


class AllCoalitions:
    """All 2^n coalitions, which give exact values; Q is 1.

    The interaction of two players is half of their Shapley interaction index (Grabisch and Roubens 1999), for each of
    the two, and a player's with itself is what these leave of its Shapley value: so all n x n add up to what all
    players are worth less what none is (as in InterSHAP, Wenderoth et al. 2024, and in Lundberg et al. 2018).

    Args:
        players: n, at least 1.

    Example:
        >>> worths = np.array([[0.0], [1.0], [2.0], [5.0]])  # of none, the first, the second, both
        >>> shapley, interactions = AllCoalitions(2).attribute(worths)
        >>> shapley[0, 0].tolist(), interactions[0, 0].tolist()
        ([2.0, 3.0], [[1.0, 1.0], [1.0, 2.0]])
    """

    def __init__(self, players: int) -> None:
        self.players = players
        numbers = np.arange(1 << players)
        self.members: NDArray[np.bool_] = (numbers[:, None] >> np.arange(players) & 1).astype(bool)

    def attribute(self, worths: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """See `Coalitions.attribute`."""
        n, games = self.players, worths.shape[1]
        numbers, sizes = np.arange(1 << n), self.members.sum(1)
        shapley = np.zeros((games, n))
        interactions = np.zeros((games, n, n))
        for i in range(n):
            without = numbers[~self.members[:, i]]
            weights = np.array([factorial(k) * factorial(n - k - 1) / factorial(n) for k in range(n)])
            gained = worths[without | 1 << i] - worths[without]
            shapley[:, i] = weights[sizes[without]] @ gained
            for j in range(i):
                neither = numbers[~self.members[:, i] & ~self.members[:, j]]
                weights = np.array([factorial(k) * factorial(n - k - 2) / factorial(n - 1) for k in range(n - 1)])
                together = worths[neither | 1 << i | 1 << j] + worths[neither]
                apart = worths[neither | 1 << i] + worths[neither | 1 << j]
                interactions[:, i, j] = interactions[:, j, i] = weights[sizes[neither]] @ (together - apart) / 2
        return shapley[None], with_own(shapley, interactions)[None]


def with_own(shapley: NDArray[np.float64], interactions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Interactions (..., n, n) of pairs, with each player's own (..., n) on the diagonal, which is zero before."""
    whole = interactions.copy()
    diagonal = np.arange(interactions.shape[-1])
    whole[..., diagonal, diagonal] = shapley - interactions.sum(-1)
    return whole


def intershap(interactions: NDArray[np.float64]) -> NDArray[np.float64]:
    """InterSHAP: the share that pairs have in the size of all interactions (..., n, n), from 0 to 1; NaN for zeros.

    Example:
        >>> float(intershap(np.array([[0.0, 0.5], [0.5, 0.0]])))
        1.0
    """
    sizes = np.abs(interactions)
    whole = sizes.sum((-1, -2))
    own = np.trace(sizes, axis1=-2, axis2=-1)
    none = np.full(np.shape(whole), np.nan)
    shares: NDArray[np.float64] = np.divide(whole - own, whole, out=none, where=whole > 0)
    return shares
