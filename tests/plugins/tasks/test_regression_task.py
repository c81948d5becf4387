import json
from decimal import Decimal

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn import metrics as sk

from mmreg.errors import OptionError, TargetError
from mmreg_tasks.regression import Regression

NUMBERS = [3.0, 1.0, 7.0, 5.0, 4.0]


def fitted(values=NUMBERS, **options):
    task = Regression(**options)
    task.fit(values)
    return task


def random_case(outputs=1, rows=400, seed=0):
    rng = np.random.default_rng(seed)
    truth = rng.normal(50, 20, (rows, outputs))
    return truth, truth + rng.normal(1, 10, (rows, outputs))


def test_targets_are_standardised_by_training_rows():
    task = fitted()
    encoded = task.encode(NUMBERS)
    assert encoded.dtype == np.float32
    assert encoded.shape == (5, 1)
    np.testing.assert_allclose(encoded[:, 0], (np.array(NUMBERS) - 4) / 2, rtol=1e-6)
    np.testing.assert_allclose(task.encode([8]), [[2.0]], rtol=1e-6)


def test_several_numbers_a_row_are_standardised_apart():
    rows = [[0, 100.0], [2, 300.0], (4, 200.0), np.array([2, 200.0])]
    task = fitted(rows)
    assert task.num_outputs == 2
    encoded = task.encode(rows)
    np.testing.assert_allclose(encoded.mean(0), [0, 0], atol=1e-6)
    np.testing.assert_allclose(encoded.std(0), [1, 1], rtol=1e-6)


@pytest.mark.parametrize(
    "values", [[1, 2, 4], ["1", " 2.0", "4e0"], [Decimal(1), Decimal("2.0"), 4], np.array([1, 2, 4])]
)
def test_numbers_of_any_type_and_text_that_reads_as_one_are_taken(values):
    assert fitted(values).state() == fitted([1.0, 2.0, 4.0]).state()


@pytest.mark.parametrize("values", [NUMBERS, [[1.0, 5.0], [2.0, 7.0], [4.0, 4.0]]])
def test_values_round_trip_through_scores_and_json(values):
    task = Regression()
    task.load_state(json.loads(json.dumps(fitted(values).state())))
    found = task.predictions(torch.from_numpy(task.encode(values)))
    if isinstance(values[0], list):
        assert list(found) == ["value_0", "value_1"]
        np.testing.assert_allclose(np.array(list(found.values())).T, values, rtol=1e-6)
    else:
        assert list(found) == ["value"]
        assert found["value"] == pytest.approx(values)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([], ["no rows"]),
        ([1.0, None, float("nan"), float("inf"), ""], ["4 of 5", "3 missing", "1 infinite"]),
        ([[1.0, 2.0], None, [3.0, 4.0]], ["1 of 3", "1 missing"]),
        ([1, 2, "x", "x", "y"], ["3 of 5", "'x' (2)", "'y' (1)", "classification"]),
        ([1, True], ["1 of 2", "True"]),
        ([2, 2, 2], ["constant: 2 in all 3 rows"]),
        ([10**18 + 7 * n for n in range(100)], ["too close together for their size", "take off"]),
        ([0.1] * 7, ["constant"]),
        ([[1, 0], [2, 0]], ["position 1", "constant: 0"]),
        ([[1, 2], [3]], ["1 (1 row), 2 (1 row)"]),
        ([[], []], ["0 (2 rows)"]),
        ([1e308, -1e308], ["too large"]),
        ([0.0, 1e-200], ["too small"]),
        ([1, 10**400], ["1 infinite"]),
    ],
)
def test_a_column_that_does_not_fit_is_refused(values, words):
    with pytest.raises(TargetError) as caught:
        Regression().fit(values)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([1, None], "1 of 2 target values are not finite"),
        ([[1, 2]], "holds 2 numbers a row, but training had 1"),
        ([1, 1e300], "1 of 2 target values, such as 1e"),
    ],
)
def test_values_that_do_not_fit_the_training_are_refused(values, words):
    with pytest.raises(TargetError, match=words):
        fitted().encode(values)


@pytest.mark.parametrize(
    ("loss", "formula"),
    [
        ("mse", lambda e: e**2),
        ("l1", np.abs),
        ("huber", lambda e: np.where(np.abs(e) <= 1, e**2 / 2, np.abs(e) - 0.5)),
    ],
)
def test_loss_is_the_mean_over_a_rows_numbers(loss, formula):
    task = fitted([[0, 0], [1, 1]], loss=loss)
    scores = torch.randn(9, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 2
    targets = torch.randn(9, 2, generator=torch.Generator().manual_seed(1))
    expected = formula(scores.numpy() - targets.double().numpy()).mean(1)
    np.testing.assert_allclose(task.loss(scores, targets).numpy(), expected, rtol=1e-12)
    torch.testing.assert_close(task.loss(task.scores(scores), targets), task.loss(scores, targets))
    assert task.loss(targets, targets).max() == 0


def test_half_precision_logits_become_float32():
    task = fitted()
    logits = torch.zeros(2, 1, dtype=torch.bfloat16)
    assert task.scores(logits).dtype == torch.float32
    assert task.loss(logits, torch.ones(2, 1)).dtype == torch.float32


@pytest.mark.parametrize("loss", ["mse", "huber"])
def test_prior_is_the_weighted_mean(loss):
    targets = np.array([[0.0, 4.0], [1.0, 2.0], [5.0, 0.0]], np.float32)
    task = fitted([[0, 4], [1, 2], [5, 0]], loss=loss)
    torch.testing.assert_close(task.prior(targets, np.ones(3, np.float32)), torch.tensor([2.0, 2.0]))
    torch.testing.assert_close(task.prior(targets, np.array([1, 0, 3], np.float32)), torch.tensor([3.75, 1.0]))
    torch.testing.assert_close(task.prior(targets, np.zeros(3, np.float32)), torch.tensor([2.0, 2.0]))


def test_prior_of_encoded_training_rows_is_the_mean_of_the_column():
    task = fitted()
    prior = task.prior(task.encode(NUMBERS), np.ones(5, np.float32))
    assert task.predictions(prior[None])["value"] == pytest.approx([4.0])


def test_prior_with_l1_is_the_weighted_median():
    targets = np.array([[9.0, 0.0], [1.0, 5.0], [5.0, 1.0]], np.float32)
    task = fitted([[9, 0], [1, 5], [5, 1]], loss="l1")
    torch.testing.assert_close(task.prior(targets, np.ones(3, np.float32)), torch.tensor([5.0, 1.0]))
    torch.testing.assert_close(task.prior(targets, np.array([5, 1, 1], np.float32)), torch.tensor([9.0, 0.0]))


@pytest.mark.parametrize("outputs", [1, 3])
def test_metrics_are_scikit_learns_in_the_targets_units(outputs):
    truth, guess = random_case(outputs)
    task = fitted(truth.tolist())
    scores, targets = (torch.from_numpy(task.encode(values.tolist())) for values in (guess, truth))
    result = task.evaluate(scores, targets, list(task.metrics))
    expected = {
        "mae": sk.mean_absolute_error(truth, guess),
        "rmse": sk.root_mean_squared_error(truth, guess),
        "r2": sk.r2_score(truth, guess),
        "mse": sk.mean_squared_error(truth, guess),
        "mape": sk.mean_absolute_percentage_error(truth, guess),
        "explained_variance": sk.explained_variance_score(truth, guess),
        "pearson": np.mean([np.corrcoef(truth[:, k], guess[:, k])[0, 1] for k in range(outputs)]),
        "spearman": np.mean([stats.spearmanr(truth[:, k], guess[:, k])[0] for k in range(outputs)]),
    }
    assert {name: result[name] for name in expected} == pytest.approx(expected, rel=1e-5)
    assert set(expected) == set(task.metrics)
    assert ("per_output" in result) == (outputs > 1)
    for k, own in enumerate(result.get("per_output", [])):
        assert own["mae"] == pytest.approx(sk.mean_absolute_error(truth[:, k], guess[:, k]), rel=1e-5)
        assert own["r2"] == pytest.approx(sk.r2_score(truth[:, k], guess[:, k]), rel=1e-5)
    assert not task.metrics[task.main_metric]
    json.dumps(result, allow_nan=False)


def test_spearman_gives_ties_their_mean_rank():
    rng = np.random.default_rng(3)
    truth = rng.integers(0, 5, 200).astype(float)
    guess = np.round(truth + rng.normal(0, 2, 200))
    task = fitted(truth.tolist())
    scores, targets = (torch.from_numpy(task.encode(values.tolist())) for values in (guess, truth))
    found = task.evaluate(scores, targets, ["spearman"])["spearman"]
    assert found == pytest.approx(stats.spearmanr(truth, guess)[0])


def test_metrics_that_equal_targets_leave_undefined_are_none_without_warnings():
    task = fitted([0.1, 0.7, 1.3])
    targets = torch.from_numpy(task.encode([0.1] * 3))
    result = task.evaluate(targets + 1, targets, list(task.metrics))
    assert {result[name] for name in ("r2", "explained_variance", "pearson", "spearman")} == {None}
    assert "R2 undefined" in task.headline(result, 3)
    assert task.evaluate(targets[:1], targets[:1])["mae"] == 0.0
    varying = torch.tensor([[0.0], [1.0], [2.0]])
    constant = task.evaluate(targets, varying, ["pearson", "spearman"])
    assert {constant["pearson"], constant["spearman"]} == {0.0}


@pytest.mark.parametrize("rows", range(2, 30))
def test_r2_of_equal_targets_is_undefined_however_their_mean_is_rounded(rows):
    task = fitted([0.1, 0.7, 1.3])
    targets = torch.from_numpy(task.encode([0.1] * rows))
    assert task.evaluate(targets + 1, targets)["r2"] is None


def test_r2_of_several_numbers_is_the_mean_over_those_whose_targets_differ():
    task = fitted([[0.0, 5.0], [1.0, 6.0], [3.0, 8.0]])
    actual, predicted = [[0.0, 5.0], [1.0, 5.0], [3.0, 5.0]], [[0.5, 5.0], [1.0, 6.0], [2.0, 5.0]]
    scores, targets = (torch.from_numpy(task.encode(values)) for values in (predicted, actual))
    found = task.evaluate(scores, targets, ["pearson"])
    one = sk.r2_score([0, 1, 3], [0.5, 1, 2])
    assert found["r2"] == pytest.approx(one)
    assert [each["r2"] for each in found["per_output"]] == [pytest.approx(one), None]
    assert found["pearson"] == pytest.approx(stats.pearsonr([0, 1, 3], [0.5, 1, 2])[0])
    assert found["mae"] == pytest.approx((0.5 + 1 / 3) / 2)


def test_unknown_metrics_and_no_rows_are_refused():
    with pytest.raises(OptionError, match="did you mean 'rmse'"):
        fitted().evaluate(torch.zeros(1, 1), torch.zeros(1, 1), ["rsme"])
    with pytest.raises(TargetError, match="no rows"):
        fitted().evaluate(torch.zeros(0, 1), torch.zeros(0, 1))


@pytest.mark.parametrize(
    ("mae", "text"), [(1.2345, "1.23"), (12345.6, "12,346"), (0.00012345, "0.000123"), (123.4, "123"), (0.0, "0")]
)
def test_headline_is_readable_at_any_scale(mae, text):
    found = fitted().headline({"mae": mae, "rmse": 2.0, "r2": 0.8}, 500)
    assert found == f"MAE: {text} (RMSE 2, R2 0.8, 500 rows)"


@pytest.mark.parametrize("outputs", [1, 3])
def test_the_baseline_says_the_mean_of_the_training_rows(outputs):
    truth, guess = random_case(outputs)
    task = fitted(truth[:50].tolist())
    scores, targets = (torch.from_numpy(task.encode(values.tolist())) for values in (guess, truth))
    result = task.evaluate(scores, targets)
    mean = truth[:50].mean(0)
    always = np.broadcast_to(mean, truth.shape)
    assert result["baseline"] == {
        "prediction": pytest.approx(mean.tolist() if outputs > 1 else mean.item()),
        "mae": pytest.approx(sk.mean_absolute_error(truth, always), rel=1e-5),
        "rmse": pytest.approx(sk.root_mean_squared_error(truth, always), rel=1e-5),
        "r2": pytest.approx(sk.r2_score(truth, always), rel=1e-4, abs=1e-6),
    }
    says = "the means: MAE" if outputs > 1 else "the mean, "
    assert f" rows); always saying {says}" in task.headline(result, len(truth))
