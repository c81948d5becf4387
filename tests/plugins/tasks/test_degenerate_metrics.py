"""Every metric of the tasks equals scikit-learn's (0 where that has none) on rows at the edge of what is defined.

Axes: N rows, K classes, labels or numbers a row.
"""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import stats
from scipy.special import expit
from sklearn import metrics as sk
from torch import Tensor

from mmreg_tasks.classification import Classification
from mmreg_tasks.classification_metrics import CALIBRATION_BINS, log_odds
from mmreg_tasks.multilabel import Multilabel
from mmreg_tasks.regression import Regression

Array = NDArray[Any]


def quiet(metric: Callable[..., Any], *arguments: Any, **options: Any) -> float:
    """What a reference gives; 0 where it gives NaN or refuses to answer."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            value = float(metric(*arguments, **options))
        except ValueError:
            return 0.0
    return value if np.isfinite(value) else 0.0


def classes(num_classes: int) -> Classification:
    task = Classification()
    task.fit(list(range(num_classes)) * 2)
    return task


def log_probabilities(predicted: Array, num_classes: int, sharpness: float) -> Tensor:
    """Log-probabilities whose greatest is that of the predicted class, with differences that no two rows share."""
    noise = np.random.default_rng(1).random((len(predicted), num_classes))
    logits = torch.from_numpy(noise) + sharpness * torch.nn.functional.one_hot(torch.from_numpy(predicted), num_classes)
    return logits.log_softmax(1)


def expected_of_classes(truth: Array, scores: Tensor) -> dict[str, float | None]:
    probabilities, predicted, count = scores.exp().numpy(), scores.argmax(1).numpy(), scores.shape[1]
    odds = log_odds(scores).numpy()
    present = np.unique(truth)
    macro = sk.precision_recall_fscore_support(truth, predicted, average="macro", zero_division=0)
    ranked = [k for k in present if len(present) > 1]
    promised, right = probabilities.max(1), predicted == truth
    bins = np.minimum((promised * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    gaps = [abs(promised[bins == b].mean() - right[bins == b].mean()) * (bins == b).mean() for b in np.unique(bins)]
    order = np.argsort(-scores.numpy(), axis=1, kind="stable")
    return {
        "accuracy": float(right.mean()),
        "precision": macro[0],
        "recall": macro[1],
        "f1": macro[2],
        "auroc": np.mean([quiet(sk.roc_auc_score, truth == k, odds[:, k]) for k in ranked]) if ranked else None,
        "average_precision": np.mean([quiet(sk.average_precision_score, truth == k, odds[:, k]) for k in present]),
        "balanced_accuracy": quiet(sk.recall_score, truth, predicted, labels=present, average="macro", zero_division=0),
        "ece": float(sum(gaps)),
        "kappa": quiet(sk.cohen_kappa_score, truth, predicted) if ranked else None,
        "log_loss": quiet(sk.log_loss, truth, probabilities, labels=range(count)),
        "mcc": quiet(sk.matthews_corrcoef, truth, predicted) if ranked else None,
        **{f"top_{n}": float((order[:, :n] == truth[:, None]).any(1).mean()) for n in (2, 3, 5, 10)},
    }


def of_classes() -> Iterator[tuple[str, int, list[int], list[int]]]:
    for count in (2, 3, 12):
        every = list(range(count))
        yield "perfect", count, every, every
        yield "all wrong", count, every, [*every[1:], 0]
        yield "a class never predicted", count, [*every, 0], [0, *every[:-1], 0]
        yield "one class predicted", count, every, [1] * count
        yield "a class never true", count, [*every[1:], 1], [*every[1:], 0]
        yield "one class true", count, [1] * count, every
        yield "all one class, right", count, [1] * 3, [1] * 3
        yield "all one class, wrong", count, [1] * 3, [0] * 3
        yield "one row, right", count, [0], [0]
        yield "one row, wrong", count, [0], [1]


@pytest.mark.parametrize("sharpness", [2, 30, 900])  # of probabilities that are rounded to one, too
@pytest.mark.parametrize(("what", "count", "truth", "predicted"), list(of_classes()))
def test_metrics_of_classes(what: str, count: int, truth: list[int], predicted: list[int], sharpness: float) -> None:
    task, scores = classes(count), log_probabilities(np.array(predicted), count, sharpness)
    found = task.evaluate(scores, torch.tensor(truth), list(task.metrics))
    expected = expected_of_classes(np.array(truth), scores)
    assert set(expected) == set(task.metrics)
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-9)


def test_metrics_of_classes_on_every_small_case() -> None:
    task = classes(2)
    for rows in (1, 2, 3, 4):
        for truth in itertools.product([0, 1], repeat=rows):
            for predicted in itertools.product([0, 1], repeat=rows):
                scores = log_probabilities(np.array(predicted), 2, 2)
                found = task.evaluate(scores, torch.tensor(truth), ["mcc", "kappa", "balanced_accuracy"])
                if len(set(truth)) == 1:
                    assert (found["mcc"], found["kappa"]) == (None, None)
                    continue
                assert found["mcc"] == pytest.approx(quiet(sk.matthews_corrcoef, truth, predicted))
                assert found["kappa"] == pytest.approx(quiet(sk.cohen_kappa_score, truth, predicted))


def test_matthews_correlation_of_a_class_that_is_never_predicted_is_zero() -> None:
    scores = torch.tensor([[0.9, 0.1]]).log().expand(100, 2)
    truth = torch.tensor([0] * 98 + [1] * 2)
    assert classes(2).evaluate(scores, truth, ["mcc"])["mcc"] == 0.0


def test_classes_in_a_tie_come_in_their_order_as_the_prediction_has_it() -> None:
    task, scores = classes(4), torch.full((4, 4), 0.25).log()
    found = task.evaluate(scores, torch.arange(4), ["top_2", "top_3", "auroc", "average_precision"])
    assert (found["accuracy"], found["top_2"], found["top_3"]) == (0.25, 0.5, 0.75)
    assert (found["auroc"], found["average_precision"]) == (0.5, 0.25)


def test_log_odds_are_exact_where_probabilities_are_rounded_to_zero_or_one() -> None:
    powers = np.random.default_rng(5).integers(-300, 301, (200, 4)).tolist()
    scores = (torch.tensor(powers, dtype=torch.float64) * math.log(2)).log_softmax(1)
    assert (scores.exp() == 1).any(1).sum() > 150
    exact = []
    for row in powers:
        numbers = [Fraction(2) ** power for power in row]
        odds = [number / (sum(numbers) - number) for number in numbers]
        exact.append([math.log(each.numerator) - math.log(each.denominator) for each in odds])
    np.testing.assert_allclose(log_odds(scores).numpy(), exact, rtol=1e-12, atol=1e-12)


def test_rows_whose_probabilities_are_rounded_to_zero_or_one_are_still_ranked() -> None:
    random = np.random.default_rng(7)
    order = random.permutation(400) - 200  # of the logits, 9 apart: beyond 4 of them probabilities are rounded
    truth = (order + random.normal(0, 150, 400) > 0).astype(int)
    scores = torch.from_numpy(np.stack([np.zeros(400), 9.0 * order], 1)).log_softmax(1)
    found = classes(2).evaluate(scores, torch.from_numpy(truth), ["auroc", "average_precision"])
    assert found["auroc"] == pytest.approx(sk.roc_auc_score(truth, order), abs=1e-12)
    both = sk.average_precision_score(truth, order), sk.average_precision_score(1 - truth, -order)
    assert found["average_precision"] == pytest.approx(np.mean(both), abs=1e-12)
    labels = Multilabel()
    labels.fit([["a"], []])
    odds, targets = torch.from_numpy(9.0 * order)[:, None], torch.from_numpy(truth)[:, None].float()
    found = labels.evaluate(odds, targets, ["auroc", "average_precision"])
    assert (found["auroc"], found["average_precision"]) == pytest.approx(
        (sk.roc_auc_score(truth, order), both[0]), abs=1e-12
    )


def test_log_odds_are_those_of_the_probabilities_where_these_are_exact() -> None:
    probabilities = np.random.default_rng(0).dirichlet([1.0] * 5, 100)
    expected = np.log(probabilities) - np.log1p(-probabilities)
    np.testing.assert_allclose(log_odds(torch.from_numpy(probabilities).log()).numpy(), expected, rtol=1e-9)
    certain = log_odds(torch.tensor([[0.0, -torch.inf], [-torch.inf, 0.0]], dtype=torch.float64))
    assert certain.tolist() == [[np.inf, -np.inf], [-np.inf, np.inf]]


def expected_of_labels(truth: Array, scores: Array) -> dict[str, float | None]:
    predicted, count = (scores > 0).astype(int), truth.shape[1]
    found: dict[str, float | None] = {}
    for average in ("micro", "macro"):
        columns = (truth[:, 0], predicted[:, 0]) if count == 1 else (truth, predicted)
        three = sk.precision_recall_fscore_support(
            *columns, average="binary" if count == 1 else average, zero_division=0
        )
        found |= {f"{name}_{average}": three[n] for n, name in enumerate(("precision", "recall", "f1"))}
    some = [k for k in range(count) if truth[:, k].any()]
    both = [k for k in some if not truth[:, k].all()]
    auroc = [quiet(sk.roc_auc_score, truth[:, k], scores[:, k]) for k in both]
    precision = [quiet(sk.average_precision_score, truth[:, k], scores[:, k]) for k in some]
    entropy = np.where(truth > 0, -np.log(expit(scores)), -np.log(expit(-scores)))
    return {
        **found,
        "subset_accuracy": float((truth == predicted).all(1).mean()),
        "hamming_loss": float((truth != predicted).mean()),
        "auroc": float(np.mean(auroc)) if auroc else None,
        "average_precision": float(np.mean(precision)) if precision else None,
        "log_loss": float(entropy.mean()),
    }


def of_labels() -> Iterator[tuple[str, Array, Array]]:
    random = np.random.default_rng(2)
    for count in (1, 2, 5):
        some, noise = random.integers(0, 2, (6, count)), random.random((6, count)) + 0.5
        never, always = np.zeros_like(some), np.ones_like(some)
        yield "perfect", some, noise * (2 * some - 1)
        yield "all wrong", some, -noise * (2 * some - 1)
        yield "never predicted", some, -noise
        yield "always predicted", some, noise
        yield "never true", never, noise
        yield "never true nor predicted", never, -noise
        yield "always true", always, -noise
        yield "one row", some[:1], noise[:1]
        yield "ties", some, np.full_like(noise, 0.5)
        yield "probabilities rounded to one", some, 40 + noise


@pytest.mark.parametrize(("what", "truth", "scores"), list(of_labels()))
def test_metrics_of_labels(what: str, truth: Array, scores: Array) -> None:
    task = Multilabel()
    task.fit([list(range(truth.shape[1])), []])
    found = task.evaluate(torch.from_numpy(scores), torch.from_numpy(truth).float(), list(task.metrics))
    expected = expected_of_labels(truth, scores)
    assert set(expected) == set(task.metrics)
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("truth", "predicted"),
    [
        ([1.0, 2.0, 3.0], [1.0, 2.0, 3.0]),
        ([1.0, 2.0, 3.0], [3.0, 2.0, 1.0]),
        ([1.0, 2.0, 2.0, 5.0], [2.0, 2.0, 1.0, 1.0]),
        ([1.0, 2.0, 3.0], [2.0, 2.0, 2.0]),
        ([2.0, 2.0, 2.0], [1.0, 2.0, 3.0]),
        ([0.0, 0.0, 1.0], [1.0, 0.5, 1.0]),
        ([2.0], [3.0]),
        ([1e6, 1e6 + 1e-3], [1e6 + 1e-3, 1e6]),
    ],
)
def test_metrics_of_numbers(truth: list[float], predicted: list[float]) -> None:
    task = Regression()
    task.fit([0.0, 2.0])  # a mean and a deviation of one: the scores are the numbers less one
    targets, scores = (torch.tensor(values, dtype=torch.float64)[:, None] - 1 for values in (truth, predicted))
    found = task.evaluate(scores, targets, list(task.metrics))
    varies = len(set(truth)) > 1
    expected = {
        "mae": sk.mean_absolute_error(truth, predicted),
        "rmse": sk.root_mean_squared_error(truth, predicted),
        "mse": sk.mean_squared_error(truth, predicted),
        "mape": sk.mean_absolute_percentage_error(truth, predicted),
        "r2": sk.r2_score(truth, predicted) if varies else None,
        "explained_variance": sk.explained_variance_score(truth, predicted) if varies else None,
        "pearson": quiet(lambda: stats.pearsonr(truth, predicted)[0]) if varies else None,
        "spearman": quiet(lambda: stats.spearmanr(truth, predicted)[0]) if varies else None,
    }
    assert set(expected) == set(task.metrics)
    assert {name: found[name] for name in expected} == {
        name: None if value is None else pytest.approx(value, rel=1e-6, abs=1e-9) for name, value in expected.items()
    }
