"""Quantiles: pinball loss, quantiles that do not cross, coverage."""

import json

import numpy as np
import pytest
import torch
from sklearn.metrics import mean_pinball_loss

from mmreg.errors import OptionError, TargetError
from mmreg_tasks.quantile import Quantile
from mmreg_tasks.regression import Regression

NUMBERS = np.random.default_rng(0).exponential(10, 301).tolist()


def fitted(quantiles=(0.1, 0.5, 0.9), values=NUMBERS):
    task = Quantile(quantiles=quantiles)
    task.fit(values)
    return task


def in_units(values, task):
    """Numbers as the task standardises them."""
    return (torch.as_tensor(values) - np.mean(NUMBERS)) / np.std(NUMBERS)


def test_the_loss_of_a_constant_is_least_at_the_empirical_quantiles():
    task = fitted()
    targets = torch.from_numpy(task.encode(NUMBERS)).double()
    constant = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([constant], lr=0.05)
    for step in range(400):
        optimizer.param_groups[0]["lr"] = 0.05 * (1 - step / 400)
        optimizer.zero_grad()
        task.loss(constant.expand(len(targets), 3), targets).mean().backward()
        optimizer.step()
    expected = in_units(np.quantile(NUMBERS, [0.1, 0.5, 0.9]), task)
    torch.testing.assert_close(constant.detach(), expected, rtol=0, atol=0.02)


def test_the_loss_is_scikit_learns():
    task = fitted((0.05, 0.3, 0.5, 0.8))
    predicted = torch.randn(301, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).sort(1).values
    targets = torch.from_numpy(task.encode(NUMBERS))
    losses = [
        mean_pinball_loss(targets[:, 0].numpy(), predicted[:, k].numpy(), alpha=q) for k, q in enumerate(task.quantiles)
    ]
    assert float(task.loss(predicted, targets).mean()) == pytest.approx(np.mean(losses))
    result = task.evaluate(predicted, targets)
    assert result["pinball"] == pytest.approx(np.mean(losses) * np.std(NUMBERS))
    assert [each["pinball"] for each in result["per_quantile"].values()] == pytest.approx(
        [loss * np.std(NUMBERS) for loss in losses]
    )


def test_quantiles_do_not_cross_and_to_sort_them_never_costs():
    task = fitted()
    logits = torch.randn(301, 3, generator=torch.Generator().manual_seed(0))
    scores, targets = task.scores(logits), torch.from_numpy(task.encode(NUMBERS))
    assert (scores.diff(dim=1) >= 0).all()
    levels = torch.tensor(task.quantiles)
    unsorted = torch.maximum(levels * (targets - logits), (levels - 1) * (targets - logits)).mean(1)
    assert (task.loss(logits, targets) <= unsorted + 1e-6).all()
    columns = task.predictions(logits.sort(1).values)
    assert list(columns) == ["q0.1", "q0.5", "q0.9"]
    torch.testing.assert_close(in_units(columns["q0.5"], task).float(), scores[:, 1])


def test_coverage_and_width_are_those_of_the_outer_quantiles_and_mae_of_the_median():
    task = fitted()
    actual = np.array([1.0, 5.0, 20.0, 40.0])
    predicted = np.array([[0, 2, 3], [5, 6, 7], [1, 2, 4], [30, 41, 50]], float)
    scores, targets = in_units(predicted, task), in_units(actual[:, None].repeat(3, 1), task)
    result = task.evaluate(scores, targets, ["mae"])
    assert result["coverage"] == 0.75
    assert result["width"] == pytest.approx((3 + 2 + 3 + 20) / 4)
    assert result["mae"] == pytest.approx((1 + 1 + 18 + 1) / 4)
    assert [each["rows below"] for each in result["per_quantile"].values()] == [0.25, 0.75, 0.75]
    low, high = result["intervals"]["coverage"]
    assert low < 0.75 < high
    line = task.headline(result, 4)
    assert "75% of them between q0.1 and q0.9 (expected 80%)" in line
    assert "(1 row)" in task.headline(result, 1)
    constants = np.quantile(NUMBERS, task.quantiles)
    expected = np.mean(
        [mean_pinball_loss(actual, np.full(4, c), alpha=q) for c, q in zip(constants, task.quantiles, strict=True)]
    )
    assert result["baseline"]["pinball"] == pytest.approx(expected)


def test_a_single_quantile_has_no_interval_and_without_the_median_there_is_no_mae():
    targets = torch.from_numpy(fitted((0.9,)).encode(NUMBERS))
    task = fitted((0.9,))
    result = task.evaluate(targets, targets)
    assert not {"coverage", "width", "mae"} & set(result)
    assert task.headline(result, 301).startswith("Pinball loss: 0 (301 rows); always saying")
    with pytest.raises(OptionError, match=r"name 0\.5 among the quantiles"):
        task.evaluate(targets, targets, ["mae"])


def test_the_prior_are_the_weighted_quantiles():
    task = fitted()
    encoded = task.encode(NUMBERS)
    prior = task.prior(encoded, np.ones(301, np.float32))
    expected = np.quantile(encoded[:, 0], task.quantiles, method="inverted_cdf")
    np.testing.assert_allclose(prior, expected, rtol=1e-6)
    weights = np.zeros(301, np.float32)
    weights[7] = 2.0
    np.testing.assert_allclose(task.prior(encoded, weights), encoded[[7, 7, 7], 0])


def test_targets_are_standardised_as_in_regression_and_one_number_a_row():
    regression = Regression()
    regression.fit(NUMBERS)
    task = fitted()
    np.testing.assert_array_equal(task.encode(NUMBERS), regression.encode(NUMBERS).repeat(3, 1))
    again = Quantile(quantiles=task.quantiles)
    again.load_state(json.loads(json.dumps(task.state())))
    np.testing.assert_array_equal(again.encode(NUMBERS), task.encode(NUMBERS))
    with pytest.raises(TargetError, match="2 numbers a row; quantiles are of one"):
        task.fit([[1.0, 2.0], [3.0, 4.0]])
    with pytest.raises(TargetError, match="1 of 2 target values are no numbers: 'x'"):
        task.fit([1.0, "x"])


@pytest.mark.parametrize("quantiles", [(0.9, 0.1), (0.5, 0.5), (0.1, 0.9, 0.5)])
def test_quantiles_must_ascend(quantiles):
    with pytest.raises(OptionError, match=r"must ascend, each once, found .*: write 0\."):
        Quantile(quantiles=quantiles)
