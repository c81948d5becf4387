"""Shares are exact Shapley values of what is predicted, over all subsets of a row's modalities."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from served import as_json

pytest.importorskip("fastapi", reason="needs mmreg[serve]")

from mmreg_explain.shapley import AllCoalitions
from mmreg_serve.app import check_shares
from mmreg_serve.limits import Limits
from mmreg_serve.refusal import Refused
from mmreg_serve.shares import shapley_weights


def by_permutations(value: dict[tuple[int, ...], float], players: int) -> list[float]:
    """Shapley's definition: the mean, over all orders, of what each adds to those before it."""
    total = np.zeros(players)
    for order in itertools.permutations(range(players)):
        for at, player in enumerate(order):
            before = tuple(sorted(order[:at]))
            total[player] += value[tuple(sorted((*before, player)))] - value[before]
    return (total / math.factorial(players)).tolist()


@pytest.mark.parametrize("players", [1, 2, 3, 5])
def test_weights_give_what_the_definition_gives(players):
    subsets = np.arange(1 << players)[:, None] >> np.arange(players) & 1 == 1
    values = np.random.default_rng(0).normal(size=len(subsets))
    value = {tuple(np.flatnonzero(s).tolist()): v for s, v in zip(subsets, values.tolist(), strict=True)}
    found = shapley_weights(subsets) @ torch.from_numpy(values)
    np.testing.assert_allclose(found, by_permutations(value, players), atol=1e-12)


@pytest.mark.parametrize("players", [2, 3, 4])
def test_they_are_those_of_mmreg_explain(players):
    coalitions = AllCoalitions(players)
    worths = np.random.default_rng(1).normal(size=(1 << players, 5))
    (expected,), _ = coalitions.attribute(worths)
    found = shapley_weights(coalitions.members) @ torch.from_numpy(worths)
    np.testing.assert_allclose(found.T, expected, atol=1e-12)


def test_shares_of_a_run_are_those_of_its_predictions(client, run, values):
    rows = [values[0], {"title": values[1]["title"], "audio": values[1]["audio"]}, {}]
    body = {"rows": [as_json(row) for row in rows], "shares": True}
    answers = client.post("/predict", json=body).json()["predictions"]
    for answer, row in zip(answers, rows, strict=True):
        names = list(row)
        label = f"probability_{answer['prediction']['label']}"
        value = {
            chosen: run.predict({names[n]: row[names[n]] for n in chosen} or {"title": None})[0][label]
            for size in range(len(names) + 1)
            for chosen in itertools.combinations(range(len(names)), size)
        }
        expected = by_permutations(value, len(names))
        assert list(answer["effects"]) == names
        np.testing.assert_allclose(list(answer["effects"].values()), expected, atol=1e-5)
        assert sum(answer["shares"].values()) == pytest.approx(1 if names else 0)


def test_shares_are_told_only_where_they_are_asked_for(client, values):
    fields = {"title": (None, values[0]["title"])}
    assert "shares" not in client.post("/predict", files=fields).json()["predictions"][0]
    answer = client.post("/predict", files={**fields, "shares": (None, "true")}).json()["predictions"][0]
    assert answer["shares"] == {"title": pytest.approx(1)}


def test_shares_that_would_take_too_many_predictions_are_refused(run):
    check_shares(run, 4, Limits(share_rows=32))
    with pytest.raises(Refused, match=r"5 rows are too many, 4 are allowed"):
        check_shares(run, 5, Limits(share_rows=32))
