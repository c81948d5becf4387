"""The tests behind a comparison, against scipy and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binomtest, norm

from mmreg.studies.statistics import Sample, bootstrap, bootstrap_p, holm, interval, mcnemar


@pytest.mark.parametrize(
    ("wins", "losses"),
    [(0, 0), (1, 0), (0, 5), (3, 3), (10, 4), (25, 41), (0, 60), (700, 812), (5000, 5200), (1, 3000)],
)
def test_mcnemar_is_the_exact_binomial_test_of_discordant_rows(wins: int, losses: int) -> None:
    expected = binomtest(wins, wins + losses, 0.5).pvalue if wins + losses else 1.0
    assert mcnemar(wins, losses) == pytest.approx(expected, rel=1e-9)


def test_mcnemar_does_not_care_which_model_is_named_first() -> None:
    assert mcnemar(7, 21) == mcnemar(21, 7)


def test_holm_is_the_step_down_procedure() -> None:
    # By hand: sorted 0.01, 0.02, 0.03, 0.04 times 4, 3, 2, 1 = 0.04, 0.06, 0.06, 0.04; then the running maximum.
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.5, 0.9, 0.001]) == pytest.approx([1.0, 1.0, 0.003])
    assert holm([0.2]) == [0.2]
    assert holm([]) == []


def mean_of(values: np.ndarray, rows: np.ndarray | None = None) -> Sample:
    rows = np.arange(len(values)) if rows is None else rows
    return rows, lambda chosen: float(values[chosen].mean())


def test_the_bootstrap_of_a_paired_difference_agrees_with_the_normal_interval() -> None:
    random = np.random.default_rng(0)
    first = random.normal(0.3, 1.0, 400)
    second = 0.8 * first + random.normal(0.0, 0.5, 400)
    draws = bootstrap([mean_of(first), mean_of(second)], 400, 4000, seed=1)
    difference = first - second
    error = difference.std(ddof=1) / math.sqrt(400)
    low, high = interval(draws[:, 0] - draws[:, 1]) or (math.nan, math.nan)
    assert low == pytest.approx(difference.mean() - 1.96 * error, abs=0.1 * error)
    assert high == pytest.approx(difference.mean() + 1.96 * error, abs=0.1 * error)
    p = bootstrap_p(float(difference.mean()), draws[:, 0] - draws[:, 1], 400)
    assert p == pytest.approx(2 * norm.sf(difference.mean() / error), rel=0.15)


def test_the_bootstrap_draws_the_same_rows_for_every_run_and_again_in_every_call() -> None:
    values = np.arange(50.0)
    draws = bootstrap([mean_of(values), mean_of(values + 1)], 50, 200, seed=3)
    assert draws[:, 1] - draws[:, 0] == pytest.approx(np.ones(200))
    assert (draws == bootstrap([mean_of(values), mean_of(values + 1)], 50, 200, seed=3)).all()
    assert len(np.unique(draws[:, 0])) > 100


def test_a_row_counts_in_each_run_as_often_as_it_is_drawn() -> None:
    """Two runs on overlapping rows: against a bootstrap written out row by row."""
    random = np.random.default_rng(5)
    first_rows, second_rows = np.array([0, 1, 2, 5]), np.array([5, 2, 3, 4])
    first, second = random.normal(size=4), random.normal(size=4)
    draws = bootstrap([mean_of(first, first_rows), mean_of(second, second_rows)], 6, 300, seed=7)
    again = np.random.default_rng(7)
    for number in range(300):
        drawn = again.integers(6, size=6).tolist()
        for column, (rows, values) in enumerate([(first_rows, first), (second_rows, second)]):
            found = [values[rows.tolist().index(row)] for row in drawn if row in rows.tolist()]
            expected = np.mean(found) if found else math.nan
            assert draws[number, column] == pytest.approx(expected, nan_ok=True)


def test_p_values_are_uniform_where_there_is_no_difference() -> None:
    random = np.random.default_rng(11)
    p_values = []
    for trial in range(200):
        first, second = random.normal(size=(2, 60))
        draws = bootstrap([mean_of(first), mean_of(second)], 60, 200, seed=trial)
        p_values.append(bootstrap_p(float(first.mean() - second.mean()), draws[:, 0] - draws[:, 1], 60))
    assert np.mean(np.array(p_values) < 0.05) < 0.11
    assert 0.35 < np.mean(np.array(p_values) < 0.5) < 0.65


def test_a_p_value_is_never_below_what_so_few_rows_can_show() -> None:
    # All of 3 rows agree, so the bootstrap sees no spread at all; the sign test gives 2 ** -2.
    draws = bootstrap([mean_of(np.ones(3)), mean_of(np.zeros(3))], 3, 100, seed=0)
    assert bootstrap_p(1.0, draws[:, 0] - draws[:, 1], 3) == binomtest(3, 3, 0.5).pvalue == 0.25
    assert bootstrap_p(0.0, draws[:, 0] - draws[:, 0], 3) == 1.0


def test_draws_on_which_a_metric_is_undefined_are_left_out() -> None:
    assert interval(np.array([math.nan, 1.0, 2.0, 3.0])) == pytest.approx((1.05, 2.95))
    assert interval(np.array([math.nan, 1.0])) is None
    assert bootstrap_p(1.0, np.array([math.nan, math.nan]), 10) == 1.0
