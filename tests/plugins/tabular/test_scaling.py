"""Numbers are scaled as scikit-learn does it, in bounded memory."""

from __future__ import annotations

import numpy as np
import pytest

from mmreg_tabular.scaling import BOUND, FARTHEST, Sample, Scale, shared

RANDOM = np.random.default_rng(0)
COLUMNS = {
    "normal": RANDOM.normal(3, 5, 500),
    "skewed": RANDOM.lognormal(0, 2, 700),
    "few values": RANDOM.integers(0, 4, 300).astype(float),
    "many of one value": np.where(RANDOM.random(400) < 0.7, 0.0, RANDOM.normal(size=400)),
    "two rows": np.array([1.0, 2.0]),
    "more rows than quantiles": RANDOM.normal(size=2500),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_quantiles_are_those_of_scikit_learn(name: str) -> None:
    preprocessing = pytest.importorskip("sklearn.preprocessing")
    column = COLUMNS[name]
    reference = preprocessing.QuantileTransformer(
        n_quantiles=min(1000, len(column)), output_distribution="normal", subsample=None
    ).fit(column[:, None])
    scale = Scale.fit("quantile", column)
    new = np.concatenate([column, column + 0.01, [column.min() - 1, column.max() + 1, 0.5]])
    expected = reference.transform(new[:, None])[:, 0]
    np.testing.assert_allclose([scale(value) for value in new.tolist()], expected, atol=2e-6)


def test_standard_is_mean_and_deviation_and_ends_somewhere() -> None:
    column = np.array([1.0, 2.0, 4.0, 9.0])
    scale = Scale.fit("standard", column)
    assert scale(6.0) == pytest.approx((6 - column.mean()) / column.std())
    assert scale(1e300) == FARTHEST
    huge = Scale.fit("standard", np.array([-1e308, 1e308, 1e308]))
    assert np.isfinite([huge(-1e308), huge(0.0)]).all()


def test_outliers_do_not_disturb_quantiles() -> None:
    column = np.concatenate([np.linspace(0, 1, 999), [1e300]])
    scale = Scale.fit("quantile", column)
    assert abs(scale(0.5)) < 0.01
    assert scale(1e301) == BOUND
    assert scale(-1e301) == -BOUND


def test_a_constant_column_is_zero_and_tells_what_is_else() -> None:
    assert [Scale.fit("quantile", np.full(9, 3.0))(value) for value in (2.0, 3.0, 4.0)] == [-BOUND, 0.0, BOUND]
    assert Scale.fit("standard", np.full(9, 3.0))(3.0) == 0.0
    assert Scale.fit("quantile", np.array([]))(7.0) == 7.0


def test_none_leaves_numbers_as_they_are_within_float32() -> None:
    scale = Scale.fit("none", np.array([1.0, 2.0]))
    assert scale(-7.25) == -7.25
    assert np.isfinite(np.float32(scale(1e300)))


@pytest.mark.parametrize("sizes", [[1] * 1000, [300, 700], [1000]])
def test_a_sample_of_more_numbers_than_are_kept_is_even(sizes: list[int]) -> None:
    sample = Sample(most=100)
    for part in np.split(np.arange(1000.0), np.cumsum(sizes)[:-1]):
        sample.add(part)
    assert len(sample.values) <= 100
    assert set(np.diff(sample.values)) == {16.0}
    assert sample.values[0] == 0.0
    assert sample.step == 16
    few = Sample(most=100)
    few.add(np.arange(100.0))
    assert few.values.tolist() == list(range(100))


def test_of_many_columns_less_is_kept_of_each() -> None:
    assert [shared(1000, columns) for columns in (1, 64, 128, 10_000)] == [1000, 1000, 500, 100]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("count", [3, 1500])
def test_the_largest_and_the_least_floats_have_a_place(count: int) -> None:
    values = np.array([-1.7e308, 5e-324, 0.0, 1.0, 1.7e308] * count)
    scale = Scale.fit("quantile", values)
    places = [scale(value) for value in (-1.7e308, 0.0, 1.0, 1e300, 1.7e308)]
    assert places == sorted(places)
    assert places[0] == -BOUND
    assert places[-1] == BOUND
    assert 0 < places[2] < 1
