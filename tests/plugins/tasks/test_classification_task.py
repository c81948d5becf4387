import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy.stats import binomtest
from sklearn import metrics as sk
from sklearn.utils.class_weight import compute_class_weight

from mmreg.errors import OptionError, TargetError
from mmreg_tasks.classification import Classification
from mmreg_tasks.metrics import wilson


def fitted(num_classes, **options):
    task = Classification(**options)
    task.fit(list(range(num_classes)) * 2)
    return task


def random_scores(rows, num_classes, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, num_classes, generator=generator, dtype=dtype).mul(2).log_softmax(1)


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        (["b", "a", "B", "b"], ["B", "a", "b"]),
        ([10, 9, 2, 10], [2, 9, 10]),
        ([2.0, 10.0, 2.0], [2.0, 10.0]),
        ([1.5, 0.5, 1.5], [0.5, 1.5]),
        ([True, False, True], [False, True]),
        ([2, 1.5, 2], [1.5, 2.0]),
        ([np.int64(3), np.int32(1)], [1, 3]),
        (np.array(["x", "a", "x"]), ["a", "x"]),
    ],
)
def test_labels_keep_their_type_and_are_sorted(values, labels):
    task = Classification()
    task.fit(values)
    assert list(task.labels) == labels
    assert [type(label) for label in task.labels] == [type(label) for label in labels]
    assert task.num_outputs == len(labels)


@pytest.mark.parametrize("values", [["b", "a", "b"], [3, 1, 3], [1.0, 0.0, 1.0], [True, False, True]])
def test_labels_round_trip_through_scores_and_json(values):
    first = Classification(class_weights="balanced")
    first.fit(values)
    task = Classification(class_weights="balanced")
    task.load_state(json.loads(json.dumps(first.state())))
    encoded = task.encode(values)
    assert encoded.dtype == np.int64
    scores = torch.nn.functional.one_hot(torch.from_numpy(encoded), 2).float().log()
    found = task.predictions(scores)["label"]
    assert found == values
    assert list(map(type, found)) == list(map(type, values))
    np.testing.assert_array_equal(task.row_weights(encoded), first.row_weights(encoded))


def test_the_order_of_the_rows_does_not_change_the_labels():
    values = [1, 2.5, 1.0, 3, 2.5]
    states = []
    for rows in (values, values[::-1]):
        task = Classification()
        task.fit(rows)
        states.append(json.dumps(task.state()))
    assert states[0] == states[1]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([], ["no rows"]),
        (["a", None, "b", " "], ["2 of 4", "missing"]),
        ([1.0, float("nan"), 2.0], ["1 of 3", "missing"]),
        ([1.0, float("inf"), 2.0], ["1 of 3"]),
        (["a", "a"], ["all 2 rows", "'a'", "two classes"]),
        (["a"], ["1 row of the target column has the label 'a'", "two classes"]),
        (["a", 1, "b", 2], ["more than one kind", "text (2 values)", "numbers (2 values)"]),
        ([True, 1, 0], ["more than one kind"]),
        ([2**63, 1, 1], ["the label 9223372036854775808 has more than 64 bits", "text"]),
        ([b"a", b"b"], ["bytes"]),
        ([["a"], ["b"]], ["multilabel"]),
        ([i / 7 for i in range(21)] * 2, ["21 different numbers", "task: regression"]),
        ([0.5, 1.5, 2.5], ["3 different numbers", "task: regression"]),
        (list(range(11)), ["11 different numbers", "task: regression"]),
        ([f"id{i}" for i in range(11)], ["each of the 11 rows", "'id0'"]),
    ],
)
def test_a_column_that_does_not_fit_is_refused(values, words):
    with pytest.raises(TargetError) as caught:
        Classification().fit(values)
    for word in words:
        assert word in str(caught.value)


def test_a_first_trial_may_have_one_row_a_class():
    task = Classification()
    task.fit(["cat", "dog", "emu"])
    assert task.num_outputs == 3


def test_more_classes_than_fit_a_confusion_matrix_are_refused():
    labels = [f"p{number}" for number in range(5_001)]
    with pytest.raises(TargetError, match="holds 5,001 different labels, of which at most 5,000 are told apart"):
        Classification().fit(labels * 2)
    with pytest.raises(TargetError, match="at most 5,000"):
        Classification().load_state({"labels": labels, "weights": None})
    fitted(5_000)


def test_unseen_labels_are_named_with_their_counts():
    task = Classification()
    task.fit(["a", "b"])
    with pytest.raises(TargetError) as caught:
        task.encode(["zebra"] * 3 + ["a"] + [f"u{i:02}" for i in range(12)])
    message = str(caught.value)
    assert "15 labels never seen in training: 'zebra' (3), 'u00' (1)" in message
    assert "u08" in message
    assert "u09" not in message
    assert "and 3 more" in message
    assert "2 labels: 'a', 'b'" in message


def test_unseen_labels_that_training_wrote_otherwise_are_told():
    task = Classification()
    task.fit(["Cat", "dog", "1"])
    with pytest.raises(TargetError, match=r"written otherwise there: 'Cat', here ' cat', '1', here '1.0'$"):
        task.encode([" cat", "dog", "emu", "1.0"])


def test_unseen_numbers_hint_at_regression():
    with pytest.raises(TargetError, match="task: regression"):
        fitted(3).encode([7])


@pytest.mark.parametrize(("training", "value"), [([0, 1], True), ([True, False], 1), (["0", "1"], True), ([0, 1], "1")])
def test_a_label_of_another_kind_is_unseen(training, value):
    task = Classification()
    task.fit(training)
    with pytest.raises(TargetError, match="never seen"):
        task.encode([value])


def test_whole_numbers_match_as_int_and_float():
    np.testing.assert_array_equal(fitted(3).encode([2.0, 1]), [2, 1])


def test_numbers_match_labels_that_are_text():
    task = Classification()
    task.fit(["1", "2.5", "x"])
    np.testing.assert_array_equal(task.encode([2.5, 1, "x"]), [1, 0, 2])


def test_missing_labels_are_refused_at_encoding_too():
    with pytest.raises(TargetError, match="1 of 2 target values are missing"):
        fitted(2).encode([0, None])


def test_balanced_weights_are_scikit_learns():
    values = ["a"] * 5 + ["b"] * 2 + ["c"] * 13
    task = Classification(class_weights="balanced")
    task.fit(values)
    expected = compute_class_weight("balanced", classes=np.array(["a", "b", "c"]), y=np.array(values))
    np.testing.assert_allclose(task.row_weights(np.arange(3)), expected, rtol=1e-6)
    assert task.row_weights(np.arange(3)).dtype == np.float32


@pytest.mark.parametrize(
    ("values", "weights"),
    [
        (["a", "b"], {"b": 3}),
        ([1, 2], {2: 3}),
        ([1, 2], {"2": 3}),
        ([1.0, 2.0], {2: 3}),
        ([1.0, 2.0], {"2": 3}),
        ([False, True], {"true": 3}),
    ],
)
def test_weights_are_given_by_label_or_its_text(values, weights):
    task = Classification(class_weights=weights)
    task.fit(values)
    np.testing.assert_array_equal(task.row_weights(np.array([0, 1, 1])), [1, 3, 3])


def test_weights_of_unknown_labels_are_refused_at_fit():
    with pytest.raises(OptionError, match="names 'c', but training has 2 labels: 'a', 'b'"):
        Classification(class_weights={"a": 1, "c": 2}).fit(["a", "b"])


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf")])
def test_weights_that_are_negative_or_not_finite_are_refused(weight):
    with pytest.raises(OptionError, match="class_weights"):
        Classification(class_weights={"a": weight})


def test_weights_of_zero_for_every_class_are_refused():
    with pytest.raises(OptionError, match="weight 0"):
        Classification(class_weights={"a": 0, "b": 0}).fit(["a", "b"])


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_loss_is_the_cross_entropy_of_each_row(smoothing):
    task = fitted(4, label_smoothing=smoothing)
    logits = torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    targets = torch.tensor([0, 1, 2, 3, 0, 1])
    x = logits.numpy()
    log_p = x - np.log(np.exp(x).sum(1, keepdims=True))
    goal = np.full((6, 4), smoothing / 4)
    goal[np.arange(6), targets.numpy()] += 1 - smoothing
    np.testing.assert_allclose(task.loss(logits, targets).numpy(), -(goal * log_p).sum(1), rtol=1e-12)


def test_loss_of_logits_is_that_of_their_scores():
    task = fitted(5, label_smoothing=0.05)
    logits = torch.randn(7, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 10
    targets = torch.arange(7) % 5
    scores = task.scores(logits)
    torch.testing.assert_close(scores.exp().sum(1), torch.ones(7, dtype=torch.float64))
    torch.testing.assert_close(task.scores(scores), scores)
    torch.testing.assert_close(task.loss(scores, targets), task.loss(logits, targets))


def test_a_perfect_prediction_has_the_least_loss():
    task = fitted(3)
    targets = torch.tensor([0, 1, 2])
    perfect = torch.eye(3) * 200
    assert task.loss(perfect, targets).max() == 0
    assert (task.loss(random_scores(3, 3), targets) > 0).all()


def test_smoothed_loss_is_least_at_the_smoothed_target():
    task = fitted(4, label_smoothing=0.2)
    target = torch.tensor([1])
    best = torch.tensor([[0.05, 0.85, 0.05, 0.05]]).log()
    least = task.loss(best, target)
    for seed in range(20):
        assert task.loss(random_scores(1, 4, seed), target) >= least


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_logits_are_scored_in_float32(dtype):
    logits = torch.tensor([[30.0, 0.0, -30.0]], dtype=dtype, requires_grad=True)
    task = fitted(3)
    assert task.scores(logits).dtype == torch.float32
    loss = task.loss(logits, torch.tensor([2]))
    loss.sum().backward()
    torch.testing.assert_close(loss, torch.tensor([60.0]))


def test_prior_is_the_weighted_frequencies():
    task = fitted(3)
    targets = np.array([0, 0, 1, 2, 2, 2])
    weights = np.array([1, 1, 2, 1, 1, 4], np.float32)
    prior = task.prior(targets, np.ones(6, np.float32))
    torch.testing.assert_close(prior, torch.tensor([2 / 6, 1 / 6, 3 / 6]).log())
    torch.testing.assert_close(task.prior(targets, weights), torch.tensor([0.2, 0.2, 0.6]).log())


def test_prior_is_finite_where_a_class_has_no_weight():
    task = fitted(3)
    prior = task.prior(np.array([0, 1]), np.ones(2, np.float32))
    assert torch.isfinite(prior).all()
    torch.testing.assert_close(prior.exp(), torch.tensor([0.5, 0.5, 0.0]), atol=2e-6, rtol=0)
    torch.testing.assert_close(task.prior(np.array([0, 1]), np.zeros(2, np.float32)).exp(), torch.full((3,), 1 / 3))


# "absent" keeps classes 1 and 4 from the truth, and class 4 from the predictions.
@pytest.mark.parametrize("absent", [False, True])
def test_metrics_are_scikit_learns(absent):
    task = fitted(6)
    scores = random_scores(300, 6)
    truth = np.random.default_rng(0).integers(0, 6, 300)
    if absent:
        truth = np.where(np.isin(truth, (1, 4)), 0, truth)
        scores[:, 4] = -50
        scores = scores.log_softmax(1)
    predicted = scores.argmax(1).numpy()
    result = task.evaluate(scores, torch.from_numpy(truth))
    assert result["accuracy"] == pytest.approx(sk.accuracy_score(truth, predicted))
    macro = sk.precision_recall_fscore_support(truth, predicted, average="macro", zero_division=0)[:3]
    assert [result["precision"], result["recall"], result["f1"]] == pytest.approx(list(macro))
    own = sk.precision_recall_fscore_support(truth, predicted, labels=range(6), zero_division=0)
    for k, (precision, recall, f1, rows) in enumerate(zip(*own, strict=True)):
        expected = {"precision": precision, "recall": recall, "f1": f1}
        expected = expected if rows else dict.fromkeys(expected)
        assert result["per_class"][str(k)] == pytest.approx({**expected, "rows": rows})
    assert result["confusion"] == sk.confusion_matrix(truth, predicted, labels=range(6)).tolist()
    assert result["labels"] == [0, 1, 2, 3, 4, 5]
    json.dumps(result, allow_nan=False)


@pytest.mark.parametrize("absent", [False, True])
def test_further_metrics_are_scikit_learns(absent):
    task = fitted(6)
    scores = random_scores(300, 6, seed=3)
    truth = np.random.default_rng(1).integers(0, 6, 300)
    if absent:
        truth = np.where(np.isin(truth, (1, 4)), 0, truth)
    probabilities, predicted = scores.double().exp().numpy(), scores.argmax(1).numpy()
    names = ["auroc", "average_precision", "balanced_accuracy", "kappa", "log_loss", "mcc", "top_2", "top_5", "top_10"]
    result = task.evaluate(scores, torch.from_numpy(truth), names)
    present = np.unique(truth)
    one_vs_rest = {
        "auroc": np.mean([sk.roc_auc_score(truth == k, probabilities[:, k]) for k in present]),
        "average_precision": np.mean([sk.average_precision_score(truth == k, probabilities[:, k]) for k in present]),
    }
    recalls = sk.recall_score(truth, predicted, labels=present, average=None, zero_division=0)
    probabilities /= probabilities.sum(1, keepdims=True)
    expected = one_vs_rest | {
        "balanced_accuracy": recalls.mean(),
        "kappa": sk.cohen_kappa_score(truth, predicted),
        "log_loss": sk.log_loss(truth, probabilities, labels=range(6)),
        "mcc": sk.matthews_corrcoef(truth, predicted),
        "top_2": sk.top_k_accuracy_score(truth, probabilities, k=2, labels=range(6)),
        "top_5": sk.top_k_accuracy_score(truth, probabilities, k=5, labels=range(6)),
        "top_10": 1.0,
    }
    assert {name: result[name] for name in names} == pytest.approx(expected, rel=1e-5)


def test_calibration_error_is_the_mean_gap_between_confidence_and_accuracy():
    task = fitted(4)
    scores = random_scores(500, 4, seed=5, dtype=torch.float64)
    truth = torch.from_numpy(np.random.default_rng(2).integers(0, 4, 500))
    confidence, predicted = scores.exp().max(1)
    bins = np.minimum((confidence.numpy() * 15).astype(int), 14)
    right = (predicted == truth).numpy()
    gap = sum(
        abs(right[bins == b].mean() - confidence.numpy()[bins == b].mean()) * (bins == b).mean()
        for b in np.unique(bins)
    )
    assert task.evaluate(scores, truth, ["ece"])["ece"] == pytest.approx(gap, rel=1e-5)


def test_metrics_that_rows_of_one_class_leave_undefined_are_none_without_warnings():
    task = fitted(3)
    scores = torch.eye(3).mul(9).log_softmax(1)[[1, 1]]
    result = task.evaluate(scores, torch.tensor([1, 1]), list(task.metrics))
    assert {result[name] for name in ("kappa", "mcc", "auroc")} == {None}
    assert result["per_class"]["0"] == {"precision": None, "recall": None, "f1": None, "rows": 0}
    assert {result[name] for name in ("accuracy", "f1", "balanced_accuracy", "top_2")} == {1.0}


def test_log_loss_is_finite_for_an_impossible_class():
    scores = torch.tensor([[0.0, -torch.inf]])
    assert fitted(2).evaluate(scores, torch.tensor([1]), ["log_loss"])["log_loss"] == pytest.approx(36.04, abs=0.01)


def test_every_metric_is_a_plain_number_that_can_be_asked_for():
    task = fitted(12)
    result = task.evaluate(random_scores(50, 12), torch.arange(50) % 12, list(task.metrics))
    assert all(type(result[name]) is float for name in task.metrics)
    assert task.metrics[task.main_metric]
    assert not task.metrics["log_loss"]
    assert not task.metrics["ece"]


def test_an_unknown_metric_is_refused_with_near_matches():
    with pytest.raises(OptionError, match=r"unknown metric 'aurock'; did you mean 'auroc'\?"):
        fitted(2).evaluate(random_scores(2, 2), torch.tensor([0, 1]), ["aurock"])


def test_evaluating_no_rows_is_refused():
    with pytest.raises(TargetError, match="no rows"):
        fitted(2).evaluate(torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64))


def test_predictions_name_the_label_and_every_probability():
    task = Classification()
    task.fit([True, False])
    found = task.predictions(torch.tensor([[0.25, 0.75], [0.9, 0.1]], dtype=torch.float64).log())
    assert found["label"] == [True, False]
    assert found["probability"] == pytest.approx([0.75, 0.9])
    assert found["probability_false"] == pytest.approx([0.25, 0.9])
    assert found["probability_true"] == pytest.approx([0.75, 0.1])


def test_headline_gives_whole_per_cent_and_counts():
    result = {"accuracy": 233 / 280}
    text = "Accuracy: 83% (233/280), 95% interval 78 to 87%"
    assert fitted(2).headline(result, 280) == text
    baseline = {"baseline": {"prediction": "cat", "accuracy": 0.214}}
    assert fitted(2).headline(result | baseline, 280) == f"{text}; always saying 'cat': 21%"


def test_the_interval_is_wilson_s():
    known = {(0, 10): (0, 0.2775327998628892), (10, 10): (0.7224672001371106, 1), (0, 1): (0, 0.7934506856227626)}
    for (hits, rows), expected in known.items():  # of statsmodels' proportion_confint(..., method="wilson")
        assert wilson(hits, rows) == pytest.approx(expected, abs=1e-12)
    for rows in (1, 2, 7, 280, 10**6):
        for hits in {0, 1, rows // 3, rows - 1, rows}:
            interval = binomtest(hits, rows).proportion_ci(0.95, "wilson")
            assert wilson(hits, rows) == pytest.approx([interval.low, interval.high], abs=1e-12)
            assert 0 <= wilson(hits, rows)[0] <= hits / rows <= wilson(hits, rows)[1] <= 1


def test_the_baseline_says_the_class_that_most_of_the_rows_have():
    task = Classification()
    task.fit(["b", "a", "b", "c", "b", "a"])
    result = task.evaluate(random_scores(4, 3), torch.from_numpy(task.encode(["a", "b", "c", "a"])))
    assert result["baseline"] == {"prediction": "a", "accuracy": 0.5}
    assert result["intervals"] == {"accuracy": wilson(result["accuracy"] * 4, 4)}


def test_the_tasks_own_metrics_need_no_torchmetrics():
    program = """
import sys, torch
from mmreg_tasks.classification import Classification
from mmreg_tasks.metrics import wilson
from mmreg_tasks.multilabel import Multilabel
from mmreg_tasks.regression import Regression
for task, values in ((Classification(), ["a", "b"]), (Multilabel(), ["a", "b"]), (Regression(), [1, 2])):
    task.fit(values)
    task.evaluate(torch.zeros(2, task.num_outputs), torch.from_numpy(task.encode(values)))
assert "torchmetrics" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)
