"""Ordinal classes: CORN's loss and probabilities, the order of labels, the figures."""

import json

import numpy as np
import pytest
import torch
from metric_references import ORDINAL
from sklearn import metrics as sk
from torch.nn.functional import logsigmoid

from mmreg.errors import OptionError, TargetError
from mmreg_tasks.ordinal import Ordinal
from mmreg_tasks.ordinal_metrics import quadratic_kappa

GRADES = [3, 1, 2, 5, 4, 1, 2, 2]


def fitted(values=GRADES, **options):
    task = Ordinal(**options)
    task.fit(values)
    return task


def drawn(rows=40, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(rows, 4, generator=generator, dtype=torch.float64)
    return logits, torch.randint(0, 5, (rows,), generator=generator)


def published_loss(logits, targets):
    """The formula of the paper, as its authors' package has it: each logit on the subset of rows that have come so far.

    Returns:
        The sum over all terms, and how many there are, by which the paper divides it.
    """
    total, terms = 0.0, 0
    for j in range(logits.shape[1]):
        subset = targets > j - 1
        above = (targets[subset] > j).double()
        own = logits[subset, j]
        total -= (logsigmoid(own) * above + (logsigmoid(own) - own) * (1 - above)).sum()
        terms += len(own)
    return total, terms


def test_the_loss_is_that_of_the_paper_but_for_what_it_is_divided_by():
    logits, targets = drawn()
    total, terms = published_loss(logits, targets)
    found = fitted().loss(logits, targets)
    assert found.shape == (40,)
    torch.testing.assert_close(found.sum() / terms, total / terms, rtol=1e-12, atol=0)


def test_a_rows_loss_is_the_sum_of_the_cross_entropies_of_the_steps_up_to_its_class():
    logits = torch.tensor([[0.3, -1.2, 2.0, 0.5]], dtype=torch.float64)
    p = torch.sigmoid(logits)[0]
    task = fitted()
    for target, expected in enumerate(
        [1 - p[0], p[0] * (1 - p[1]), p[0] * p[1] * (1 - p[2]), p[0] * p[1] * p[2] * (1 - p[3]), p.prod()]
    ):
        torch.testing.assert_close(task.loss(logits, torch.tensor([target])), -expected.log()[None])


def test_probabilities_of_being_above_a_class_are_products_and_fall():
    logits, _ = drawn()
    probabilities = fitted().scores(logits).exp()
    torch.testing.assert_close(probabilities.sum(1), torch.ones(40, dtype=torch.float64))
    above = 1 - probabilities.cumsum(1)[:, :-1]
    torch.testing.assert_close(above, torch.sigmoid(logits).cumprod(1))
    assert (above.diff(dim=1) <= 0).all()


def test_extreme_logits_have_finite_scores_and_gradients():
    logits = torch.tensor([[1e4, -1e4, 1e4, -1e4], [-1e4] * 4, [1e4] * 4], requires_grad=True)
    loss = fitted().loss(logits, torch.tensor([4, 0, 4]))
    loss.sum().backward()
    assert loss.isfinite().all()
    assert logits.grad.isfinite().all()


def test_the_label_that_is_told_is_the_median_as_in_the_paper():
    logits, _ = drawn()
    task = fitted()
    published = (torch.sigmoid(logits).cumprod(1) > 0.5).sum(1)
    assert task.decide(task.scores(logits)).equal(published)
    probabilities = torch.tensor([[0.4, 0.05, 0.15, 0.3, 0.1]])
    found = task.predictions(probabilities.log())
    assert found["label"] == [3]
    assert found["probability"] == pytest.approx([0.15])


@pytest.mark.parametrize(
    ("values", "order", "labels"),
    [
        ([10, 9, 2, 10], None, (2, 9, 10)),
        ([0.5, 1.0, 0.5], None, (0.5, 1.0)),
        (["10", "9", "2", "10"], None, ("2", "9", "10")),
        (["good", "bad", "fair", "bad"], ["bad", "fair", "good"], ("bad", "fair", "good")),
        (["good", "bad", "bad"], ["bad", "fair", "good"], ("bad", "fair", "good")),
        ([1.0, 3.0, 2.0, 1.0], [3, 2, 1], (3.0, 2.0, 1.0)),
        ([1, 3, 3], [1, 2, 3], (1, 2, 3)),
        (["1", "2", "2"], [2, 1], ("2", "1")),
    ],
)
def test_the_order_is_that_of_numbers_or_as_it_is_named(values, order, labels):
    task = fitted(values, order=order)
    assert task.labels == labels
    assert task.encode(values).tolist() == [labels.index(value) for value in values]
    assert (task.num_outputs, task.num_logits) == (len(labels), len(labels) - 1)


@pytest.mark.parametrize(
    ("values", "order", "words"),
    [
        (["bad", "good", "bad"], None, ["order of the labels is not known", "'bad', 'good'", "order: [..]"]),
        (["1", "2", "x", "x"], None, ["'1', '2', 'x'", "order: [..]"]),
        (["1", "1.0", "2", "2"], None, ["no different numbers", "'1', '1.0', '2'"]),
        (["1", "2", "nan"], None, ["no different numbers"]),
        ([True, False, True], None, ["False, True", "classification"]),
        (["bad", "good", "odd", "odd"], ["bad", "fair", "good"], ["'odd'", "order does not name", "'bad', 'fair'"]),
        ([1, 2, 2], [1, 2, "x"], ["'x'", "no row has", "another kind"]),
        (["bad", "bad"], ["bad", "good"], ["'bad'", "two classes"]),
        ([1, None, 2], None, ["1 of 3", "missing"]),
        ([], None, ["no rows"]),
    ],
)
def test_labels_without_a_known_order_are_refused_by_name(values, order, words):
    with pytest.raises(TargetError) as caught:
        fitted(values, order=order)
    assert all(word in str(caught.value) for word in words), caught.value


def test_an_order_names_each_label_once():
    with pytest.raises(OptionError, match="'1' more than once"):
        Ordinal(order=[1, 2, "1"])


def test_a_label_that_order_names_and_no_row_has_may_come_later():
    task = fitted(["bad", "good", "bad"], order=["bad", "fair", "good"], class_weights="balanced")
    assert task.encode(["fair"]).tolist() == [1]
    assert task.row_weights(np.array([0, 2])) == pytest.approx([0.5, 1.0])
    assert np.isfinite(task.row_weights(np.array([1]))).all()
    again = Ordinal(order=["bad", "fair", "good"])
    again.load_state(json.loads(json.dumps(task.state())))
    assert again.labels == task.labels


def test_the_prior_is_the_share_of_each_class():
    task = fitted([1, 2, 2, 3])
    prior = task.prior(task.encode([1, 2, 2, 3]), np.ones(4, np.float32))
    assert prior.exp().tolist() == pytest.approx([0.25, 0.5, 0.25])


@pytest.mark.parametrize(
    ("truth", "predicted"),
    [
        ([0, 1, 2, 3, 4], [0, 1, 2, 3, 4]),
        ([0, 1, 2, 3, 4], [4, 3, 2, 1, 0]),
        ([0, 0, 1, 4], [2, 2, 2, 2]),
        ([2, 2, 2], [0, 1, 4]),
        ([0, 1, 1, 3], [0, 3, 1, 1]),
    ],
)
def test_kappa_is_scikit_learns(truth, predicted):
    confusion = torch.zeros(5, 5, dtype=torch.int64)
    for row, column in zip(truth, predicted, strict=True):
        confusion[row, column] += 1
    expected = sk.cohen_kappa_score(truth, predicted, weights="quadratic", labels=range(5))
    assert quadratic_kappa(confusion) == pytest.approx(expected)


def test_kappa_is_0_where_all_rows_are_of_the_one_class_that_is_told():
    confusion = torch.zeros(5, 5, dtype=torch.int64)
    confusion[2, 2] = 7
    assert quadratic_kappa(confusion) == 0.0


def test_figures_are_those_of_the_labels_that_are_told_and_of_always_saying_the_median():
    logits, targets = drawn(200)
    task = fitted()
    scores = task.scores(logits)
    result = task.evaluate(scores, targets, list(task.metrics))
    assert {name: result[name] for name in task.metrics} == pytest.approx(
        {name: reference(scores, targets) for name, reference in ORDINAL.items()}
    )
    median = int(np.median(targets))
    assert result["baseline"]["prediction"] == task.labels[median]
    assert result["baseline"]["mae"] == pytest.approx(float((targets - median).abs().double().mean()))
    line = task.headline(result, 200)
    assert line.startswith("Quadratic kappa: ")
    assert ", 1 row)" in task.headline(result, 1)
    assert f"always saying {task.labels[median]}: MAE" in line
