import json

import numpy as np
import pytest
import torch
from sklearn import metrics as sk
from sklearn.utils.class_weight import compute_class_weight

from mmreg.errors import OptionError, TargetError
from mmreg_tasks.multilabel import Multilabel


def fitted(num_labels, **options):
    task = Multilabel(**options)
    task.fit([[k] for k in range(num_labels)])
    return task


def random_case(rows=300, num_labels=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(rows, num_labels, generator=generator, dtype=torch.float64)
    truth = (torch.rand(rows, num_labels, generator=generator) < 0.3).float()
    return scores, truth


@pytest.mark.parametrize(
    "cells",
    [
        ["sea, sun", "sun", "", ",", "sun,sea,"],
        [["sea", "sun"], ["sun"], [], [], ["sun", "sea", "sea"]],
        [("sea", "sun"), {"sun"}, "", np.array([], str), "sun ,sea"],
    ],
)
def test_cells_are_lists_or_text_with_a_separator(cells):
    task = Multilabel()
    task.fit(cells)
    assert task.labels == ("sea", "sun")
    encoded = task.encode(cells)
    assert encoded.dtype == np.float32
    np.testing.assert_array_equal(encoded, [[1, 1], [0, 1], [0, 0], [0, 0], [1, 1]])


def test_without_a_separator_a_text_cell_is_one_label():
    task = Multilabel(separator=None)
    task.fit(["a,b", " c "])
    assert task.labels == ("a,b", "c")


def test_single_labels_and_numbers_are_cells_too():
    task = Multilabel()
    task.fit([3, [10, 3], np.int64(2)])
    assert task.labels == (2, 3, 10)
    np.testing.assert_array_equal(task.encode([[10, 2], 3]), [[1, 0, 1], [0, 1, 0]])


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        ([], ["no rows"]),
        ([["a"], None, float("nan")], ["2 of 3", "missing", "empty list"]),
        ([["a"], ["a", None], [""]], ["2 of 3 rows", "null"]),
        ([["a"], [1]], ["more than one kind"]),
        ([[], ""], ["none of the 2 rows"]),
        ([{"a": 1}], ["dict"]),
    ],
)
def test_a_column_that_does_not_fit_is_refused(cells, words):
    with pytest.raises(TargetError) as caught:
        Multilabel().fit(cells)
    for word in words:
        assert word in str(caught.value)


def test_unseen_labels_are_named():
    task = Multilabel()
    task.fit(["a,b"])
    with pytest.raises(TargetError, match=r"2 labels never seen in training: 'c' \(2\)"):
        task.encode(["a,c", "c"])


def test_an_empty_separator_is_refused():
    with pytest.raises(OptionError, match="separator"):
        Multilabel(separator="")


@pytest.mark.parametrize("values", [["a,b", "b", ""], [["a", "b"], ["b"], []], [[1, 2], [2], []]])
def test_labels_round_trip_through_scores_and_json_in_the_columns_own_form(values):
    first = Multilabel(class_weights="balanced")
    first.fit(values)
    task = Multilabel()
    task.load_state(json.loads(json.dumps(first.state())))
    targets = torch.from_numpy(task.encode(values))
    found = task.predictions(targets * 20 - 10)
    assert found["labels"] == values
    names = [str(label) for label in task.labels]
    assert list(found) == ["labels", *(f"probability_{name}" for name in names)]
    assert found[f"probability_{names[0]}"] == pytest.approx([1, 0, 0], abs=1e-4)
    scores = torch.randn(3, 2)
    torch.testing.assert_close(task.loss(scores, targets), first.loss(scores, targets))


def test_loss_is_the_mean_binary_cross_entropy():
    task = fitted(5)
    scores, truth = random_case(rows=7)
    p, y = 1 / (1 + np.exp(-scores.numpy())), truth.numpy()
    expected = -(y * np.log(p) + (1 - y) * np.log(1 - p)).mean(1)
    np.testing.assert_allclose(task.loss(scores, truth).numpy(), expected, rtol=1e-12)
    torch.testing.assert_close(task.loss(task.scores(scores), truth), task.loss(scores, truth))


def test_a_perfect_prediction_has_the_least_loss():
    scores, truth = random_case(rows=7)
    task = fitted(5)
    assert task.loss((truth * 2 - 1) * 1000, truth).max() == 0
    assert (task.loss(scores, truth) > 0).all()


def test_balanced_weights_are_scikit_learns_for_each_label():
    cells = [["a"], ["a", "b"], ["a"], [], ["a"], ["a"]]
    task = Multilabel(class_weights="balanced")
    task.fit(cells)
    y = task.encode(cells)
    scores, _ = random_case(rows=6, num_labels=2)
    p = 1 / (1 + np.exp(-scores.numpy()))
    entropy = -(y * np.log(p) + (1 - y) * np.log(1 - p))
    for k in range(2):
        without, having = compute_class_weight("balanced", classes=np.array([0, 1]), y=y[:, k])
        entropy[:, k] *= np.where(y[:, k] == 1, having, without)
    np.testing.assert_allclose(task.loss(scores, torch.from_numpy(y)).numpy(), entropy.mean(1), rtol=1e-6)
    np.testing.assert_array_equal(task.row_weights(y), np.ones(6))


def test_a_label_that_every_row_has_can_be_balanced():
    task = Multilabel(class_weights="balanced")
    task.fit([["a"], ["a", "b"]])
    assert torch.isfinite(task.loss(torch.zeros(1, 2), torch.zeros(1, 2))).all()


def test_weights_by_label_count_for_the_rows_that_have_it():
    task = Multilabel(class_weights={"b": 3})
    task.fit(["a,b"])
    loss = task.loss(torch.zeros(3, 2), torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.0, 0.0]]))
    torch.testing.assert_close(loss, torch.tensor([2.0, 1.0, 1.0]) * np.log(2))
    with pytest.raises(OptionError, match="names 'c'"):
        Multilabel(class_weights={"c": 3}).fit(["a,b"])


def test_a_loss_in_inference_mode_does_not_spoil_a_later_training_step():
    task = fitted(2, class_weights="balanced")
    scores, targets = torch.zeros(1, 2, requires_grad=True), torch.ones(1, 2)
    with torch.inference_mode():
        task.loss(scores, targets)
    task.loss(scores, targets).sum().backward()
    assert scores.grad is not None


def test_prior_is_the_log_odds_of_the_weighted_frequencies():
    task = fitted(3)
    targets = np.array([[1, 0, 0], [1, 0, 1], [0, 0, 1], [1, 0, 1]], np.float32)
    prior = task.prior(targets, np.array([1, 1, 1, 1], np.float32))
    torch.testing.assert_close(prior[[0, 2]].sigmoid(), torch.tensor([0.75, 0.75]))
    assert torch.isfinite(prior).all()
    assert prior[1] < -13
    torch.testing.assert_close(
        task.prior(targets, np.array([1, 1, 6, 2], np.float32))[[0, 2]].sigmoid(), torch.tensor([0.4, 0.9])
    )


@pytest.mark.parametrize("class_weights", [None, "balanced", {"a": 4.0}])
def test_prior_is_the_constant_of_least_loss(class_weights):
    cells = [["a"], ["b"], [], ["b"], ["b", "a"], ["b"]]
    task = Multilabel(class_weights=class_weights)
    task.fit(cells)
    targets = task.encode(cells)
    prior = task.prior(targets, np.ones(6, np.float32)).double().requires_grad_()
    task.loss(prior.expand(6, 2), torch.from_numpy(targets)).mean().backward()
    torch.testing.assert_close(prior.grad, torch.zeros(2, dtype=torch.float64), atol=1e-6, rtol=0)


# "absent" keeps label 1 from the truth and the predictions, and label 3 from the truth.
@pytest.mark.parametrize("absent", [False, True])
@pytest.mark.parametrize("threshold", [0.5, 0.3])
def test_metrics_are_scikit_learns(absent, threshold):
    task = fitted(5, threshold=threshold)
    scores, truth = random_case()
    if absent:
        truth[:, [1, 3]] = 0
        scores[:, 1] = -9
    p, y = scores.sigmoid().numpy(), truth.numpy().astype(int)
    predicted = (p > threshold).astype(int)
    names = ["auroc", "average_precision", "log_loss"]
    result = task.evaluate(scores, truth, names)
    for average in ("micro", "macro"):
        expected = sk.precision_recall_fscore_support(y, predicted, average=average, zero_division=0)[:3]
        found = [result[f"{name}_{average}"] for name in ("precision", "recall", "f1")]
        assert found == pytest.approx(list(expected))
    own = sk.precision_recall_fscore_support(y, predicted, average=None, zero_division=0)
    for k, (precision, recall, f1, rows) in enumerate(zip(*own, strict=True)):
        expected = {"precision": precision, "recall": recall, "f1": f1}
        expected = expected if rows else dict.fromkeys(expected)
        assert result["per_label"][str(k)] == pytest.approx({**expected, "rows": rows})
    assert result["subset_accuracy"] == pytest.approx(sk.accuracy_score(y, predicted))
    assert result["hamming_loss"] == pytest.approx(sk.hamming_loss(y, predicted))
    some = np.flatnonzero(y.any(0))
    assert result["auroc"] == pytest.approx(sk.roc_auc_score(y[:, some], p[:, some]), rel=1e-5)
    assert result["average_precision"] == pytest.approx(sk.average_precision_score(y[:, some], p[:, some]), rel=1e-5)
    entropy = np.mean([sk.log_loss(y[:, k], p[:, k], labels=[0, 1]) for k in range(5)])
    assert result["log_loss"] == pytest.approx(entropy)
    json.dumps(result, allow_nan=False)


def test_metrics_of_rows_without_labels_are_zero_or_none_without_warnings():
    task = fitted(2)
    result = task.evaluate(torch.full((3, 2), -1.0), torch.zeros(3, 2), list(task.metrics))
    assert {result[name] for name in ("f1_micro", "f1_macro", "precision_micro")} == {0.0}
    assert {result[name] for name in ("auroc", "average_precision")} == {None}
    assert result["subset_accuracy"] == 1.0
    assert result["hamming_loss"] == 0.0


def test_unknown_metrics_and_no_rows_are_refused():
    task = fitted(2)
    with pytest.raises(OptionError, match="did you mean 'f1_micro'"):
        task.evaluate(torch.zeros(1, 2), torch.zeros(1, 2), ["f1_mikro"])
    with pytest.raises(TargetError, match="no rows"):
        task.evaluate(torch.zeros(0, 2), torch.zeros(0, 2))


def test_threshold_decides_what_is_predicted():
    scores = torch.tensor([[0.2, 0.4], [0.6, 0.95]]).logit()
    assert fitted(2).predictions(scores)["labels"] == [[], [0, 1]]
    assert fitted(2, threshold=0.9).predictions(scores)["labels"] == [[], [1]]
    assert fitted(2, threshold=0.1).predictions(scores)["labels"] == [[0, 1], [0, 1]]


def test_headline_gives_the_micro_f1():
    assert fitted(2).headline({"f1_micro": 0.8149}, 500) == "F1: 0.81 (micro, 500 rows)"
    assert fitted(2).headline({"f1_micro": 1.0}, 1) == "F1: 1.00 (micro, 1 row)"


def test_more_labels_than_fit_a_matrix_are_refused():
    with pytest.raises(TargetError, match="holds 50,001 different labels, of which at most 50,000 are told apart"):
        Multilabel(class_weights="balanced").fit([[f"p{number}"] for number in range(50_001)])


def test_label_smoothing_moves_each_target_towards_one_half():
    task = fitted(3, label_smoothing=0.2)
    scores = torch.tensor([[1.5, -0.5, 0.2]], dtype=torch.float64)
    probability = 1 / (1 + np.exp(-scores.numpy()))
    target = np.array([[0.9, 0.1, 0.9]])  # of 1, 0, 1
    expected = -(target * np.log(probability) + (1 - target) * np.log(1 - probability)).mean(1)
    np.testing.assert_allclose(task.loss(scores, torch.tensor([[1.0, 0.0, 1.0]])).numpy(), expected)
