"""Each metric equals scikit-learn, SciPy or a formula, and is a finite number on any rows.

Axes: N rows, K classes, labels or numbers a row.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import stats
from scipy.special import expit, softmax
from sklearn import metrics
from torch import Tensor

from mmreg import registry
from mmreg.errors import OptionError

Array = NDArray[Any]
ZERO = {"zero_division": 0.0}


def classes(rows: int = 60, count: int = 5, *, true: int = 4, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Log-probabilities of classes, of which the last are never true, and never the most probable either."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(rows, count, generator=generator)
    logits[:, true:] -= 30
    return logits.log_softmax(1), torch.randint(0, true, (rows,), generator=generator)


def labels(rows: int = 60, count: int = 4, *, seed: int = 0, ties: bool = False) -> tuple[Tensor, Tensor]:
    """Log-odds of labels, far apart in places; the first row has no label, the second all, and one label is rare."""
    generator = torch.Generator().manual_seed(seed)
    scores = 8 * torch.randn(rows, count, generator=generator)
    targets = (torch.rand(rows, count, generator=generator) > 0.6).float()
    targets[0], targets[1], targets[2:, -1] = 0, 1, 0
    return ((scores / 4).round() if ties else scores), targets


def values(rows: int = 60, count: int = 2, *, seed: int = 0, ties: bool = False) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randn(rows, count, generator=generator)
    scores = 0.7 * targets + 0.5 * torch.randn(rows, count, generator=generator) + 0.2
    return ((scores * 2).round(), targets.round()) if ties else (scores, targets)


def measured(name: str, data: tuple[Tensor, Tensor], **options: Any) -> float:
    scores, targets = data
    found = registry.build("metric", name, num_outputs=scores.shape[1], **options).compute(scores, targets)
    assert type(found) is float
    assert math.isfinite(found)
    return found


def decided(data: tuple[Tensor, Tensor], threshold: float = 0.5) -> tuple[Array, Array]:
    """True and predicted classes, or labels."""
    scores, targets = data
    if targets.ndim == 1:
        return targets.numpy(), scores.argmax(1).numpy()
    return targets.numpy().astype(int), (expit(scores.double().numpy()) > threshold).astype(int)


def counts(data: tuple[Tensor, Tensor]) -> tuple[Array, Array]:
    """True and predicted, (N, K) bool each."""
    actual, predicted = decided(data)
    if actual.ndim == 1:
        every = np.arange(data[0].shape[1])
        return actual[:, None] == every, predicted[:, None] == every
    return actual > 0, predicted > 0


@pytest.mark.parametrize("average", ["macro", "micro", "weighted"])
@pytest.mark.parametrize("data", [classes(), labels()], ids=["classes", "labels"])
class TestOfDecisions:
    def test_fbeta(self, data, average):
        for beta in (0.5, 2.0):
            expected = metrics.fbeta_score(*decided(data), beta=beta, average=average, **ZERO)
            assert measured("fbeta", data, beta=beta, average=average) == pytest.approx(expected, abs=1e-6)

    def test_jaccard(self, data, average):
        expected = metrics.jaccard_score(*decided(data), average=average, **ZERO)
        assert measured("jaccard", data, average=average) == pytest.approx(expected, abs=1e-6)

    def test_specificity(self, data, average):
        actual, predicted = counts(data)
        right, negative = (~actual & ~predicted).sum(0), (~actual).sum(0)
        occurs = (actual | predicted).any(0) if data[1].ndim == 1 else np.ones(actual.shape[1], bool)
        weights = {"macro": occurs.astype(float), "weighted": actual.sum(0)}
        if average == "micro":
            expected = right.sum() / negative.sum()
        else:
            expected = np.average(right / negative, weights=weights[average])
        assert measured("specificity", data, average=average) == pytest.approx(expected, abs=1e-6)


EDGES: list[tuple[str, list[int], list[int]]] = [
    ("perfect", [0, 1, 2, 3, 4], [0, 1, 2, 3, 4]),
    ("all wrong", [0, 1, 2, 3, 4], [1, 2, 3, 4, 0]),
    ("classes never predicted", [0, 1, 2, 3, 4], [0, 0, 2, 2, 2]),
    ("classes never true", [0, 0, 2, 2, 2], [0, 1, 2, 3, 4]),
    ("one class predicted", [0, 0, 2, 1], [2, 2, 2, 2]),
    ("one class true", [2, 2, 2, 2], [0, 0, 2, 1]),
    ("all one class, right", [3, 3, 3], [3, 3, 3]),
    ("all one class, wrong", [3, 3, 3], [1, 1, 1]),
    ("one row, right", [0], [0]),
    ("one row, wrong", [0], [4]),
]


@pytest.mark.parametrize("sharpness", [3, 900])  # of probabilities that are rounded to one, too
@pytest.mark.parametrize("count", [5, 2])
@pytest.mark.parametrize(("what", "true", "predicted"), EDGES, ids=[each[0] for each in EDGES])
def test_decisions_at_the_edge_are_scikit_learns(
    what: str, true: list[int], predicted: list[int], count: int, sharpness: float
) -> None:
    actual, decided = (np.minimum(each, count - 1) for each in (true, predicted))
    logits = sharpness * torch.nn.functional.one_hot(torch.from_numpy(decided), count).double()
    data = logits.log_softmax(1), torch.from_numpy(actual)
    for average in ("macro", "micro", "weighted"):
        given = {"average": average}
        beta = metrics.fbeta_score(actual, decided, beta=2, **given, **ZERO)
        assert measured("fbeta", data, **given) == pytest.approx(beta, abs=1e-6)
        assert measured("jaccard", data, **given) == pytest.approx(
            metrics.jaccard_score(actual, decided, **given, **ZERO), abs=1e-6
        )
    truth, guess = counts(data)
    right, negative = (~truth & ~guess).sum(0), (~truth).sum(0)
    each, occurs = right / np.maximum(negative, 1), (truth | guess).any(0)
    assert measured("specificity", data) == pytest.approx(each[occurs].mean(), abs=1e-6)
    for weights in ("linear", "quadratic"):
        alone = len({*actual, *decided}) == 1
        kappa = 0.0 if alone else metrics.cohen_kappa_score(actual, decided, labels=range(count), weights=weights)
        assert measured("weighted_kappa", data, weights=weights) == pytest.approx(kappa, abs=1e-6)
    probabilities, wrong = softmax(logits.numpy(), 1), (actual != decided).astype(float)
    brier = metrics.brier_score_loss(actual, probabilities, labels=range(count), scale_by_half=False)
    assert measured("brier", data) == pytest.approx(brier)
    gap = abs(probabilities.max(1).mean() - 1 + wrong.mean())  # all rows have the same probability, so the same bin
    for norm in ("l1", "l2", "max"):
        assert measured("calibration", data, norm=norm) == pytest.approx(gap)


@pytest.mark.parametrize("threshold", [0.2, 0.9])
def test_labels_are_predicted_above_the_threshold(threshold):
    data = labels()
    actual, predicted = decided(data, threshold)
    given = {"threshold": threshold}
    beta = metrics.fbeta_score(actual, predicted, beta=2, average="macro", **ZERO)
    assert measured("fbeta", data, **given) == pytest.approx(beta, abs=1e-6)
    assert measured("exact_match", data, **given) == pytest.approx(metrics.accuracy_score(actual, predicted))
    jaccard = metrics.jaccard_score(actual, predicted, average="macro", **ZERO)
    assert measured("jaccard", data, **given) == pytest.approx(jaccard, abs=1e-6)
    right = ((1 - actual) * (1 - predicted)).sum() / (1 - actual).sum()
    assert measured("specificity", data, average="micro", **given) == pytest.approx(right, abs=1e-6)


@pytest.mark.parametrize("weights", ["linear", "quadratic"])
def test_weighted_kappa(weights):
    data = classes()
    expected = metrics.cohen_kappa_score(*decided(data), labels=range(5), weights=weights)
    assert measured("weighted_kappa", data, weights=weights) == pytest.approx(expected, abs=1e-6)


def test_brier():
    scores, targets = classes()
    probabilities = softmax(scores.double().numpy(), 1)
    expected = metrics.brier_score_loss(targets, probabilities, labels=range(5), scale_by_half=False)
    assert measured("brier", (scores, targets)) == pytest.approx(expected)
    scores, targets = labels()
    columns = zip(targets.numpy().T, expit(scores.double().numpy()).T, strict=True)
    expected = np.mean([metrics.brier_score_loss(actual, probability) for actual, probability in columns])
    assert measured("brier", (scores, targets)) == pytest.approx(expected)


@pytest.mark.parametrize("norm", ["l1", "l2", "max"])
@pytest.mark.parametrize("bins", [1, 4, 15])
@pytest.mark.parametrize("data", [classes(300), labels(300)], ids=["classes", "labels"])
def test_calibration(data, bins, norm):
    scores, targets = data
    if targets.ndim == 1:
        probability, right = scores.double().exp().amax(1).numpy(), (scores.argmax(1) == targets).numpy()
    else:
        probability, right = scores.double().sigmoid().flatten().numpy(), targets.flatten().numpy() > 0.5
    bin_of = np.minimum((probability * bins).astype(int), bins - 1)
    groups = [bin_of == each for each in range(bins) if (bin_of == each).any()]
    distances = np.array([abs(probability[rows].mean() - right[rows].mean()) for rows in groups])
    shares = np.array([rows.mean() for rows in groups])
    expected = {
        "l1": (distances * shares).sum(),
        "l2": np.sqrt((distances**2 * shares).sum()),
        "max": distances.max(),
    }
    assert measured("calibration", data, n_bins=bins, norm=norm) == pytest.approx(expected[norm], abs=1e-5)


def test_certain_predictions_are_in_the_last_bin():
    # In float32 the exponential of a log-softmax may exceed one.
    scores = torch.tensor([[1e-7, -40.0], [1e-7, -40.0]])
    assert measured("calibration", (scores, torch.tensor([0, 1]))) == pytest.approx(0.5)


@pytest.mark.parametrize("norm", ["l1", "l2", "max"])
def test_probabilities_of_exactly_one_share_the_last_bin_with_those_below(norm):
    scores = torch.tensor([[0.99], [1.0], [0.97], [1.0]], dtype=torch.float64).logit()
    data = scores, torch.tensor([[1.0], [1.0], [1.0], [0.0]])
    assert measured("calibration", data, norm=norm) == pytest.approx(0.99 - 0.75)


@pytest.mark.parametrize("squared", [False, True])
def test_hinge(squared):
    scores, targets = classes()
    if not squared:
        expected = metrics.hinge_loss(targets.numpy(), scores.double().numpy(), labels=range(5))
        assert measured("hinge", (scores, targets)) == pytest.approx(expected)
    pairs = zip(scores.double().tolist(), targets.tolist(), strict=True)
    missed = [max(0.0, 1 - row[true] + max(row[:true] + row[true + 1 :])) for row, true in pairs]
    expected = np.mean(np.square(missed) if squared else missed)
    assert measured("hinge", (scores, targets), squared=squared) == pytest.approx(expected, rel=1e-5)
    scores, targets = labels()
    missed = np.maximum(0, 1 - scores.double().numpy() * np.where(targets > 0.5, 1, -1))
    expected = np.mean(np.square(missed) if squared else missed)
    assert measured("hinge", (scores, targets), squared=squared) == pytest.approx(expected)


@pytest.mark.parametrize("ties", [False, True])
def test_orders_of_labels(ties):
    scores, targets = labels(ties=ties)
    expected = metrics.label_ranking_loss(targets.numpy(), scores.numpy())
    assert measured("ranking_loss", (scores, targets)) == pytest.approx(expected)
    expected = metrics.coverage_error(targets.numpy(), scores.numpy())
    assert measured("coverage_error", (scores, targets)) == pytest.approx(expected)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("rows", [2, 3, 60, 257])
def test_kendall(rows, ties):
    scores, targets = values(rows, ties=ties)
    columns = zip(scores.numpy().T, targets.numpy().T, strict=True)
    found = [stats.kendalltau(predicted, actual)[0] for predicted, actual in columns]
    expected = np.mean([0.0 if np.isnan(each) else each for each in found])
    assert measured("kendall", (scores, targets)) == pytest.approx(expected)


def test_kendall_of_more_ties_than_32_bits_count():
    scores, targets = values(100_000, 1, ties=True)
    expected = stats.kendalltau(scores[:, 0].numpy(), targets[:, 0].numpy())[0]
    assert measured("kendall", (scores, targets)) == pytest.approx(expected)


def test_concordance():
    scores, targets = values()
    predicted, actual = scores.double().numpy(), targets.double().numpy()
    agreement = 2 * ((predicted - predicted.mean(0)) * (actual - actual.mean(0))).mean(0)
    expected = agreement / (predicted.var(0) + actual.var(0) + (predicted.mean(0) - actual.mean(0)) ** 2)
    assert measured("concordance", (scores, targets)) == pytest.approx(expected.mean())
    assert measured("concordance", (targets, targets)) == pytest.approx(1.0)
    assert measured("concordance", (targets + 1, targets)) < 0.8


OF_CLASSES = ("fbeta", "specificity", "jaccard", "weighted_kappa", "brier", "calibration", "hinge")
OF_LABELS = (
    *(name for name in OF_CLASSES if name != "weighted_kappa"),
    "exact_match",
    "ranking_loss",
    "coverage_error",
)
OF_VALUES = ("kendall", "concordance")

CERTAIN = torch.tensor([[0.0, -50.0]])
ODDS = torch.tensor([[3.0, -3.0]])

DEGENERATE: list[tuple[str, tuple[str, ...], tuple[Tensor, Tensor], dict[str, float]]] = [
    (
        "one row that is right",
        OF_CLASSES,
        (CERTAIN, torch.tensor([0])),
        {"fbeta": 1, "specificity": 0, "jaccard": 1, "weighted_kappa": 0, "brier": 0, "calibration": 0, "hinge": 0},
    ),
    (
        "one row that is wrong",
        OF_CLASSES,
        (CERTAIN, torch.tensor([1])),
        {"fbeta": 0, "specificity": 0, "jaccard": 0, "weighted_kappa": 0, "brier": 2, "calibration": 1, "hinge": 51},
    ),
    (
        "a class that is never predicted",
        OF_CLASSES,
        (CERTAIN.repeat(4, 1), torch.tensor([0, 0, 1, 1])),
        {"fbeta": 5 / 12, "specificity": 0.5, "jaccard": 0.25, "weighted_kappa": 0, "brier": 1, "calibration": 0.5},
    ),
    (
        "one label alone, in one row",
        OF_LABELS,
        (ODDS[:, :1], torch.ones(1, 1)),
        {"fbeta": 1, "specificity": 0, "jaccard": 1, "exact_match": 1, "ranking_loss": 0, "coverage_error": 1},
    ),
    (
        "no row has any label, and none is predicted",
        OF_LABELS,
        (-ODDS.abs().repeat(3, 1), torch.zeros(3, 2)),
        {"fbeta": 0, "specificity": 1, "jaccard": 0, "exact_match": 1, "ranking_loss": 0, "coverage_error": 0},
    ),
    (
        "every row has every label, and none is predicted",
        OF_LABELS,
        (-ODDS.abs().repeat(3, 1), torch.ones(3, 2)),
        {"fbeta": 0, "specificity": 0, "jaccard": 0, "exact_match": 0, "ranking_loss": 0, "coverage_error": 2},
    ),
    ("one row", OF_VALUES, (torch.tensor([[0.1]]), torch.tensor([[0.3]])), {"kendall": 0, "concordance": 0}),
    (
        "equal targets",
        OF_VALUES,
        (torch.tensor([[0.1], [0.2], [0.3]]), torch.full((3, 1), 0.1)),
        {"kendall": 0, "concordance": 0},
    ),
    (
        "equal predictions that are right",
        OF_VALUES,
        (torch.full((3, 1), 0.1), torch.full((3, 1), 0.1)),
        {"kendall": 0, "concordance": 0},
    ),
]


@pytest.mark.parametrize(("what", "names", "data", "expected"), DEGENERATE, ids=[each[0] for each in DEGENERATE])
def test_degenerate_rows_give_a_finite_number_by_custom(what, names, data, expected):
    found = {name: measured(name, data) for name in names}
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-6)


def test_every_metric_is_tried_on_degenerate_rows():
    assert set(registry.names("metric")) == {*OF_CLASSES, *OF_LABELS, *OF_VALUES}


@pytest.mark.parametrize("name", registry.names("metric"))
def test_spaces_and_direction_are_those_that_it_is_tested_in(name):
    cls = registry.get("metric", name)
    spaces = {"log_probabilities": OF_CLASSES, "log_odds": OF_LABELS, "values": OF_VALUES}
    assert cls.spaces == {space for space, names in spaces.items() if name in names}
    assert cls.more_is_better == (name not in ("brier", "calibration", "hinge", "ranking_loss", "coverage_error"))


def test_no_name_is_that_of_a_bundled_task_s_own_metric():
    own = {metric for task in registry.names("task") for metric in registry.get("task", task).metrics}
    assert not own & set(registry.names("metric"))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("fbeta", {"beta": 0}, "beta: must be greater than 0"),
        ("fbeta", {"average": "mean"}, "average: must be 'macro', 'micro' or 'weighted'"),
        ("exact_match", {"threshold": 1.0}, "threshold: must be less than 1"),
        ("calibration", {"bins": 3}, "bins: is no option here; did you mean 'n_bins'"),
        ("kendall", {"variant": "b"}, "variant: is no option here"),
    ],
)
def test_wrong_options_are_refused_with_their_name(name, options, message):
    with pytest.raises(OptionError, match=message):
        registry.build("metric", name, num_outputs=3, **options)
