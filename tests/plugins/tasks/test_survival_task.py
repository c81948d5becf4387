"""Survival: Cox's partial likelihood and Harrell's C-index against lifelines and plain formulas."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from lifelines import CoxPHFitter
from lifelines.utils import concordance_index

from mmreg.errors import OptionError, TargetError
from mmreg.model.model import Output, Supervised
from mmreg.testing import run_checks
from mmreg.training.losses import total_loss
from mmreg_tasks.survival import Survival
from mmreg_tasks.survival_metrics import c_index


def rows(times, events):
    return [{"time": t, "event": e} for t, e in zip(times, events, strict=True)]


def drawn(count, ties, seed=0):
    """Log-hazards (B, 1) and targets (B, 2), of which some are censored and, with ties, many at the same time."""
    random = np.random.default_rng(seed)
    times = random.integers(1, 6, count) if ties else random.permutation(count) + 1.0
    targets = np.stack([times, random.random(count) < 0.6], 1).astype(np.float64)
    return torch.from_numpy(random.normal(size=(count, 1))), torch.from_numpy(targets)


def plain(scores, targets):
    """Breslow's partial likelihood as its formula has it, a term for each row."""
    terms = []
    for i in range(len(scores)):
        at_risk = [math.exp(scores[j, 0]) for j in range(len(scores)) if targets[j, 0] >= targets[i, 0]]
        terms.append(math.log(sum(at_risk)) - float(scores[i, 0]) if targets[i, 1] else 0.0)
    return terms


@pytest.mark.parametrize("ties", [True, False])
def test_the_loss_is_the_partial_likelihood(ties):
    for seed in range(5):
        scores, targets = drawn(17, ties, seed)
        assert Survival().loss(scores, targets).tolist() == pytest.approx(plain(scores, targets), abs=1e-12)


def test_minimising_the_loss_gives_the_coefficients_of_lifelines():
    random = np.random.default_rng(1)
    table = pd.DataFrame(random.normal(size=(150, 2)), columns=["a", "b"])
    times = random.exponential(np.exp(-(0.7 * table["a"] - 1.1 * table["b"])))
    ends = random.exponential(2, 150)
    table["days"], table["died"] = np.minimum(times, ends), times <= ends
    fitter = CoxPHFitter().fit(table, "days", "died")
    inputs = torch.from_numpy(table[["a", "b"]].to_numpy())
    targets = torch.from_numpy(table[["days", "died"]].to_numpy(np.float64))
    weights = torch.zeros(2, 1, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], line_search_fn="strong_wolfe", tolerance_grad=1e-9)

    def closure():
        optimizer.zero_grad()
        loss = Survival().loss(inputs @ weights, targets).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    assert weights.detach()[:, 0].tolist() == pytest.approx(fitter.params_.tolist(), abs=1e-4)
    assert -float(closure().detach()) == pytest.approx(fitter.log_likelihood_, abs=1e-4)


def test_gradients_are_right_with_ties_and_censoring():
    scores, targets = drawn(9, ties=True)
    assert torch.autograd.gradcheck(lambda each: Survival().loss(each, targets), scores.requires_grad_())


def test_a_batch_without_an_event_costs_nothing_and_has_finite_gradients():
    scores = torch.tensor([[3.0], [-80.0]], requires_grad=True)
    loss = Survival().loss(scores, torch.tensor([[1.0, 0.0], [2.0, 0.0]]))
    loss.sum().backward()
    assert loss.tolist() == [0.0, 0.0]
    assert scores.grad.tolist() == [[0.0], [0.0]]
    alone = Survival().loss(torch.tensor([[5.0]]), torch.tensor([[1.0, 1.0]]))
    assert alone.tolist() == [0.0]


def test_extreme_risks_have_finite_losses_and_gradients():
    scores = torch.tensor([[1e4], [-1e4], [0.0]], requires_grad=True)
    loss = Survival().loss(scores, torch.tensor([[3.0, 1.0], [1.0, 1.0], [2.0, 1.0]]))
    loss.sum().backward()
    assert loss.isfinite().all()
    assert scores.grad.isfinite().all()


def test_training_compares_no_row_with_one_that_lacks_the_part_and_weighs_each_events_term():
    scores, targets = drawn(12, ties=True)
    present, weights = torch.arange(12) % 4 > 0, torch.rand(12, dtype=torch.float64)
    logits = torch.where(present[:, None], scores, math.nan)
    output = Output(scores, present, (Supervised("part", logits, present, 1.0, None),), {})
    loss, _ = total_loss(output, targets, weights, Survival(), weights.sum(), 1.0, 0.0)
    terms = torch.tensor(plain(scores[present], targets[present]), dtype=torch.float64)
    torch.testing.assert_close(loss, (terms * weights[present]).sum() / weights.sum())


def test_a_task_that_compares_rows_with_absent_ones_fails_its_checks():
    class Leaky(Survival):
        """Takes absent rows for such that are at risk."""

        def loss_among(self, scores, targets, present):
            return super().loss_among(scores, targets, torch.ones_like(present))

    report = run_checks(Leaky)
    assert [result.check for result in report.of("failed")] == ["loss"]


@pytest.mark.parametrize("count", [2, 3, 5, 40, 200])
def test_the_c_index_is_that_of_lifelines(count):
    random = np.random.default_rng(count)
    for _ in range(20):
        few = max(2, count // random.integers(1, 5))
        times, risks = random.integers(0, few, (2, count)).astype(float)
        events = random.random(count) < random.random()
        try:
            expected = concordance_index(times, -risks, events)
        except ZeroDivisionError:  # no two rows can be compared
            expected = 0.5
        assert c_index(risks, times, events) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("times", "events", "expected"),
    [
        ([1.0, 2.0], [False, False], 0.5),
        ([1.0, 1.0], [True, True], 0.5),
        ([1.0, 1.0], [True, False], 1.0),
        ([1.0], [True], 0.5),
        ([2.0, 1.0], [True, True], 0.0),
    ],
)
def test_the_c_index_of_few_rows_is_finite(times, events, expected):
    found = c_index(np.arange(len(times), 0.0, -1), np.array(times), np.array(events))
    assert found == expected


def test_figures_tell_the_events_and_what_saying_the_same_would_give():
    task = Survival()
    result = task.evaluate(
        torch.tensor([[2.0], [1.0], [0.0]]), torch.from_numpy(task.encode(rows([1, 2, 3], [1, 0, 1])))
    )
    assert result == {"c_index": 1.0, "events": 2, "baseline": {"prediction": "the same risk", "c_index": 0.5}}
    assert task.headline(result, 3) == "C-index: 1 (3 rows, 2 events); always saying the same: 0.5"
    assert task.predictions(torch.tensor([[2.0]])) == {"risk": [2.0]}


@pytest.mark.parametrize(
    "events",
    [[True, False], [1, 0], [1.0, 0.0], ["yes", "no"], [" YES", "No "], ["true", "FALSE"], ["1", "0"], ["y", "n"]],
)
def test_events_are_true_or_false_in_several_ways(events):
    assert Survival().encode(rows([1, "2.5"], events)).tolist() == [[1.0, 1.0], [2.5, 0.0]]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([], ["no rows"]),
        (rows([1, 2], ["died", "alive"]), ["2 of 2 events", "'died' (1), 'alive' (1)", "write true or false"]),
        (rows([1, 2], [2, 1]), ["1 of 2 events", "2 (1)"]),
        (rows([1, 2], [None, 1]), ["1 of 2", "missing", "whether its event happened"]),
        (rows([1, None], [1, 1]), ["times", "1 missing"]),
        (rows([1, float("inf")], [1, 1]), ["times", "1 infinite"]),
        (rows([-1, 2], [1, 1]), ["1 of 2 times are negative", "-1"]),
        (rows([1, 1e39], [1, 1]), ["too large"]),
        (rows([1, "x"], [1, 1]), ["times", "'x'"]),
        (rows([[1, 2], [3, 4]], [1, 1]), ["one number a row, found 2"]),
        ([5.0, 3.0], ["2 of 2", "5.0", "columns"]),
        ([{"time": 3}, {"time": 3, "event": 1}], ["1 of 2", "event"]),
        (rows([1, 2], [0, 0]), ["no event has happened in 2 rows"]),
        (rows([1, 3, 3], [0, 1, 1]), ["first event, at 3", "last time of 3 rows"]),
    ],
)
def test_what_is_no_time_and_event_is_refused_by_name(values, words):
    with pytest.raises(TargetError) as caught:
        Survival().fit(values)
    assert all(word in str(caught.value) for word in words), caught.value


def test_few_events_and_splits_without_one_are_told():
    task = Survival()
    few, none = task.encode(rows([1, 2, 3], [1, 0, 1])), task.encode(rows([1], [0]))
    texts = [concern.text for concern in task.concerns({"train": few, "validation": none, "test": none})]
    assert texts[0].startswith("2 training rows have an event")
    assert texts[1] == "no validation and no test row has an event; nothing is measured there"
    enough = task.encode(rows(range(20), [1] * 20))
    assert task.concerns({"train": enough, "validation": few}) == []


def fitted_by_lifelines(rounded=False):
    """A Cox model of lifelines, its table, and our task's baseline hazard learned from that model's log-hazards."""
    random = np.random.default_rng(2)
    table = pd.DataFrame(random.normal(size=(200, 2)), columns=["a", "b"])
    times = random.exponential(10 * np.exp(-(0.7 * table["a"] - 1.1 * table["b"])))
    ends = random.exponential(20, 200)
    days = np.minimum(times, ends)
    table["days"], table["died"] = np.ceil(days) if rounded else days.astype(np.float32).astype(float), times <= ends
    fitter = CoxPHFitter().fit(table, "days", "died")
    at = np.unique(table["days"])
    task = Survival(times=tuple(at[[0, len(at) // 3, len(at) // 2, -1]].tolist()))
    targets = torch.from_numpy(task.encode(rows(table["days"], table["died"])))
    task.fit_scores(torch.from_numpy(fitter.predict_log_partial_hazard(table).to_numpy())[:, None], targets)
    return fitter, table, task


@pytest.mark.parametrize("rounded", [False, True], ids=["times alone", "tied times"])
def test_probabilities_of_lasting_are_those_of_lifelines(rounded):
    fitter, _, task = fitted_by_lifelines(rounded)
    new = pd.DataFrame(np.random.default_rng(3).normal(size=(30, 2)), columns=["a", "b"])
    expected = fitter.predict_survival_function(new, task.times)  # between times that rows have it interpolates
    columns = task.predictions(torch.from_numpy(fitter.predict_log_partial_hazard(new).to_numpy())[:, None])
    assert list(columns) == ["risk", *(f"survival_{time:.10g}" for time in task.times)]
    for time, name in zip(task.times, list(columns)[1:], strict=True):
        assert columns[name] == pytest.approx(expected.loc[time].tolist(), abs=1e-6)


def test_between_events_a_probability_stays_as_it_is():
    targets = torch.tensor([[1.0, 1.0], [2.0, 1.0], [3.0, 0.0]])
    task = Survival(times=(0.5, 1.5, 2.5, 7.0))
    task.fit_scores(torch.zeros(3, 1), targets)
    columns = list(task.predictions(torch.zeros(1, 1)).values())[1:]
    assert [column[0] for column in columns] == pytest.approx([1.0, *np.exp([-1 / 3, -5 / 6, -5 / 6])], abs=1e-6)


def test_probabilities_need_a_finished_model_and_are_finite_at_the_ends():
    task = Survival(times=(0.0, 1e-3, 1e30))
    assert task.learns_from_scores
    assert not Survival().learns_from_scores
    assert list(task.predictions(torch.zeros(1, 1))) == ["risk"]
    targets = torch.tensor([[1.0, 1.0], [2.0, 0.0], [3.0, 1.0]])
    task.fit_scores(torch.tensor([[1e4], [-1e4], [0.0]]), targets)
    columns = task.predictions(torch.tensor([[1e4], [-1e4], [0.0]]))
    assert columns["survival_0"] == columns["survival_0.001"] == [1.0, 1.0, 1.0]
    assert columns["survival_1e+30"][:2] == [0.0, 1.0]
    assert columns["survival_1e+30"][2] == pytest.approx(math.exp(-1.0)), "the last one at risk, of exp(0)"


def test_times_that_do_not_ascend_and_such_beyond_all_rows_are_told():
    with pytest.raises(OptionError, match="times must ascend, each once, found 3, 1, 3: write 1, 3"):
        Survival(times=(3.0, 1.0, 3.0))
    targets = np.array([[4.0, 1.0], [9.0, 0.0]], np.float32).repeat(50, 0)
    told = [each.text for each in Survival(times=(1.0, 10.0, 20.0)).concerns({"train": targets})]
    assert told == [
        "no training row was watched until 10 (the last until 9): the probability of lasting beyond it is that of the "
        "last event before"
    ]
    assert Survival(times=(9.0,)).concerns({"train": targets}) == []
