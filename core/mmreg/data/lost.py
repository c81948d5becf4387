"""Modalities that rows are made to lack although the table has them, as if they had never been recorded.

Axes: N rows, M modalities.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from mmreg.data.identity import value_codes
from mmreg.data.list_cells import ListCells
from mmreg.data.table import Table


def lost_cells(
    table: Table,
    columns: Mapping[str, Sequence[str]],
    rate: float,
    seeds: Mapping[str, int],
    lists: Mapping[str, ListCells] | None = None,
) -> dict[str, NDArray[np.bool_]]:
    """For each modality (N,) bool, the rows that lose it, of those that have it; no row loses all that it has.

    Args:
        table: the N rows.
        columns: for each of M modalities the columns that it reads.
        rate: as for `lost_at_rate`.
        seeds: what the draws of each are keyed by.
        lists: the cells of those whose cells hold any number of values.
    """
    apart = lists or {}
    present = np.stack(
        [_has_values(apart[name]) if name in apart else _has_cells(table, columns[name]) for name in columns], 1
    )
    draws = np.stack([np.random.default_rng(seeds[name]).random(len(table)) for name in columns], 1)
    lost = lost_at_rate(present, draws, rate)
    return {name: lost[:, index] for index, name in enumerate(columns)}


def lost_at_rate(present: NDArray[np.bool_], draws: NDArray[np.float64], rate: float) -> NDArray[np.bool_]:
    """Which rows lose which modality: where the draw is below the rate, but never the one with a row's greatest draw.

    So a row keeps one, chosen at random, and what is lost at some rate is lost at every higher one. Of M modalities
    that all rows have, each is lost by a share of rate - rate^M / M.

    Args:
        present: (N, M), who has what.
        draws: (N, M), evenly distributed from 0 to 1.
        rate: from 0 to 1.

    Example:
        >>> lost_at_rate(np.ones((3, 2), bool), np.array([[0.1, 0.2], [0.1, 0.9], [0.6, 0.7]]), 0.5).tolist()
        [[True, False], [True, False], [False, False]]
    """
    lost = present & (draws < rate)
    kept = np.where(present, draws, -1.0).argmax(1)
    lost[np.arange(len(lost)), kept] = False
    return lost


def _has_values(cells: ListCells) -> NDArray[np.bool_]:
    """(N,) whether a row's cell holds a value that is not absent."""
    there = cells.owners[value_codes(cells.values, cells.column, paths=False) >= 0]
    return np.bincount(there, minlength=len(cells.bounds) - 1) > 0


def _has_cells(table: Table, columns: Sequence[str]) -> NDArray[np.bool_]:
    """(N,) whether any of these columns has a value."""
    has: NDArray[np.bool_] = np.any([value_codes(table, column, paths=False) >= 0 for column in columns], axis=0)
    return has
