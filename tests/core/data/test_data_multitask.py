"""Several targets as one task: each is what it would be by itself, and rows that lack one count for the others alone.

Losses, gradients and learned weights are compared with the formulas, in float64.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from mmreg import registry
from mmreg.contract.metrics import by_target
from mmreg.contract.target_values import TargetRecords
from mmreg.data.multitask import MultiTask, several
from mmreg.data.table import read_table
from mmreg.data.targets import TargetColumn, loss_weights, stratifying
from mmreg.errors import OptionError, TargetError

ROWS: list[dict[str, Any]] = [
    {"price": 1.0, "kind": "cat"},
    {"price": 4.0, "kind": None},
    {"price": None, "kind": "dog"},
    {"price": float("nan"), "kind": "cat"},
    {"price": 2.5, "kind": "emu"},
    {"price": 7.0},
]


def fitted(weights: dict[str, float | None] | None = None, rows: Any = None, **options: Any) -> MultiTask:
    tasks = {
        "price": registry.build("task", "regression"),
        "kind": registry.build("task", "classification", **options),
    }
    cls = several({name: type(task) for name, task in tasks.items()})
    task = cls(tasks, weights or {"price": 1.0, "kind": 1.0})
    task.fit(ROWS if rows is None else rows)
    return task


def logits(count: int, size: int = 4) -> Tensor:
    return torch.randn(count, size, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)


def weighed(task: MultiTask, rows: list[dict[str, Any]]) -> Tensor:
    """The encoded targets of training rows, weights and all."""
    encoded = task.encode(rows)
    task.weigh(encoded, {}, np.arange(len(rows)))
    return torch.from_numpy(encoded)


def test_loss_and_gradients_are_those_of_the_sum_of_the_means_over_the_rows_that_have_a_target() -> None:
    task, scores = fitted({"price": 2.0, "kind": 0.5}), logits(6)
    loss = task.loss(scores, weighed(task, ROWS)).mean()
    (gradient,) = torch.autograd.grad(loss, scores)
    prices = torch.tensor([1.0, 4.0, 2.5, 7.0], dtype=torch.float64)
    standard = ((prices - prices.mean()) / prices.std(correction=0)).float().double()
    expected = 2.0 * (scores[[0, 1, 4, 5], 0] - standard).square().mean()
    expected = expected + 0.5 * functional.cross_entropy(scores[[0, 2, 3, 4], 1:], torch.tensor([0, 1, 0, 2]))
    (own_gradient,) = torch.autograd.grad(expected, scores)
    torch.testing.assert_close(loss, expected, rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(gradient, own_gradient, rtol=1e-7, atol=1e-9)


def test_learned_weights_are_those_of_the_paper() -> None:
    """L_price / (2 sigma^2) + log sigma + L_kind / sigma^2 + log sigma, each with its own sigma (Kendall 2018)."""
    task, scores = fitted({"price": None, "kind": None}), logits(6)
    assert task.module is not None
    sigmas = torch.tensor([0.7, 1.9], dtype=torch.float64)
    module = task.module.double()
    (log_variances,) = module.parameters()
    with torch.no_grad():
        log_variances.copy_(2 * sigmas.log())
    targets = weighed(task, ROWS)
    loss = task.loss(scores, targets).mean()
    plain = fitted().losses(scores, targets)
    s = sigmas.clone().requires_grad_()
    expected = plain["price"].mean() / (2 * s[0] ** 2) + plain["kind"].mean() / s[1] ** 2 + s.log().sum()
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=1e-8)
    (own,) = torch.autograd.grad(expected, s)
    (found,) = torch.autograd.grad(loss, log_variances)
    torch.testing.assert_close(found, own * s / 2, rtol=1e-6, atol=1e-8)  # d sigma / d log sigma^2 = sigma / 2


def test_a_learned_weight_begins_at_one_and_a_half_of_numbers_and_is_told() -> None:
    task = fitted({"price": None, "kind": None})
    result = task.evaluate(logits(6), torch.from_numpy(task.encode(ROWS)))
    assert (result["targets"]["price"]["loss_weight"], result["targets"]["kind"]["loss_weight"]) == (0.5, 1.0)


def test_to_lack_one_target_leaves_the_loss_and_gradients_of_the_other_as_they_are() -> None:
    full = [{"price": float(at), "kind": "ab"[at % 2]} for at in range(6)]
    lacking = [{**row, "price": None} if at in (1, 4) else row for at, row in enumerate(full)]
    task, scores = fitted(rows=full), logits(6, 3)
    kinds, gradients = [], []
    for rows in (full, lacking):
        targets = weighed(task, rows)
        own = task.losses(scores, targets)
        kinds.append(own["kind"])
        gradients.append(torch.autograd.grad(task.loss(scores, targets).sum(), scores)[0])
        assert (own["price"] == 0).tolist() == [row["price"] is None for row in rows]
    assert kinds[0].equal(kinds[1])
    assert gradients[0][:, 1:].equal(gradients[1][:, 1:])
    assert gradients[1][[1, 4], 0].tolist() == [0, 0]
    assert all(each.isfinite().all() for each in gradients)


def test_class_weights_act_on_their_own_loss_alone() -> None:
    weights = {"cat": 3.0, "dog": 0.5}
    task, scores = fitted(class_weights=weights), logits(6)
    own, plain = (each.losses(scores, weighed(each, ROWS)) for each in (task, fitted()))
    assert own["price"].equal(plain["price"])
    known = torch.tensor([3.0, 0, 0.5, 3.0, 1.0, 0], dtype=torch.float64)
    torch.testing.assert_close(own["kind"].mean(), (plain["kind"] / 1.5 * known).sum() / known.sum())
    assert task.row_weights(task.encode(ROWS)).tolist() == [1] * 6


def test_a_column_of_weights_acts_on_its_own_target_alone() -> None:
    table = read_table({"p": [1.0, 2.0, None, 5.0], "k": ["a", "b", "a", "b"], "w": [1.0, 3.0, None, 0.5]})
    task = fitted(rows=[{"price": 1.0, "kind": "a"}, {"price": 2.0, "kind": "b"}])
    target = TargetColumn(table, {"price": "p", "kind": "k"})
    splits = {"train": np.arange(4)}
    targets = target.encode(task, splits)
    weights = loss_weights(task, table, {"price": "w", "kind": None}, targets, splits)
    assert weights.tolist() == [1, 1, 1, 1]
    np.testing.assert_allclose(targets[[0, 1, 3], 1], np.array([1, 3, 0.5]) * 4 / 4.5, rtol=1e-6)
    assert np.isnan(targets[2, 1])
    assert targets[:, -1].tolist() == [1, 1, 1, 1]


def test_scores_prior_and_predictions_are_those_of_the_tasks_side_by_side() -> None:
    task = fitted()
    price, kind = task.tasks["price"], task.tasks["kind"]
    given = logits(6).detach()
    scores = task.scores(given)
    assert scores.equal(torch.cat([price.scores(given[:, :1]), kind.scores(given[:, 1:])], 1))
    assert task.scores(scores).equal(task.scores(task.scores(scores)))
    prior = task.prior(weighed(task, ROWS).numpy(), np.ones(6, np.float32))
    own = kind.prior(np.array([0, 1, 0, 2]), np.ones(4, np.float32))
    torch.testing.assert_close(prior[1:], own)
    assert abs(float(prior[0])) < 1e-6
    columns = task.predictions(scores)
    assert list(columns) == ["price.value", *(f"kind.{name}" for name in kind.predictions(scores[:, 1:]))]
    assert columns["kind.label"] == kind.predictions(scores[:, 1:])["label"]


def test_metrics_are_those_of_each_task_alone_on_the_rows_that_have_its_target() -> None:
    task, scores = fitted(), fitted().scores(logits(6).detach())
    result = task.evaluate(scores, torch.from_numpy(task.encode(ROWS)), ["kind.log_loss", "price.spearman"])
    alone = {}
    for name, columns, rows in (("price", slice(0, 1), [0, 1, 4, 5]), ("kind", slice(1, 4), [0, 2, 3, 4])):
        own = task.tasks[name]
        targets = torch.from_numpy(own.encode([ROWS[at][name] for at in rows]))
        further = {"price": ["spearman"], "kind": ["log_loss"]}[name]
        alone[name] = own.evaluate(scores[rows][:, columns], targets, further)
    told = by_target({"split": "test", "rows": 6, "metrics": {**result, "modalities": {}}})
    assert list(told) == ["", "price", "kind"]
    assert {key: each for key, each in told[""]["metrics"].items() if key != "modalities"} == {
        "relative_loss": result["relative_loss"]
    }
    for name, expected in alone.items():
        assert told[name]["rows"] == 4
        expected["baseline"].pop("per_output", None)
        assert {**told[name]["metrics"]} == {**expected, "modalities": {}}
    assert task.headline(result, 6) == (
        f"price: {task.tasks['price'].headline(alone['price'], 4)} | "
        f"kind: {task.tasks['kind'].headline(alone['kind'], 4)}"
    )


def test_the_relative_loss_is_one_for_who_says_the_prior_of_the_training_rows() -> None:
    task = fitted({"price": 3.0, "kind": None})
    targets = weighed(task, ROWS)
    prior = task.prior(targets.numpy(), np.ones(6, np.float32)).expand(6, -1)
    assert task.evaluate(prior, targets)["relative_loss"] == pytest.approx(1.0, abs=1e-6)
    other = fitted({"price": 0.0, "kind": 1.0})
    far = torch.cat([prior[:, :1] + 100, prior[:, 1:]], 1)
    assert other.evaluate(far, targets)["relative_loss"] == pytest.approx(1.0, abs=1e-6)


def test_a_target_that_no_row_has_is_without_figures() -> None:
    task, rows = fitted(), [{"price": 1.0}, {"price": 2.0}]
    result = task.evaluate(logits(2), torch.from_numpy(task.encode(rows)))
    assert result["targets"]["kind"] == {"rows": 0}
    assert not any(name.startswith("kind.") for name in result)
    assert "kind: no row has a value" in task.headline(result, 2)
    texts = [each.text for each in task.concerns({"train": task.encode(ROWS), "test": task.encode(rows)})]
    assert "target 'kind': 4 rows have no value, of 8; they count for the other targets alone" in texts
    assert "target 'kind': no test row has a value, so nothing is measured of it there" in texts


def test_a_state_that_is_loaded_gives_the_same() -> None:
    task, scores = fitted({"price": None, "kind": 1.0}), logits(6)
    other = several({name: type(own) for name, own in task.tasks.items()})(
        {"price": registry.build("task", "regression"), "kind": registry.build("task", "classification")},
        task.loss_weights,
    )
    other.load_state(task.state())
    np.testing.assert_array_equal(other.encode(ROWS), task.encode(ROWS))
    assert other.loss(scores, weighed(other, ROWS)).equal(task.loss(scores, weighed(task, ROWS)))
    assert other.state() == task.state()


def test_many_classes_stay_exact() -> None:
    rows = [{"price": float(at), "kind": str(at % 4_000)} for at in range(8_000)]
    task = fitted(rows=rows)
    target = task.targets()["kind"]
    _, own = target.known(torch.zeros(8_000, task.num_outputs), torch.from_numpy(task.encode(rows)))
    assert own.dtype == torch.int64
    assert own.numpy().tolist() == task.tasks["kind"].encode([row["kind"] for row in rows]).tolist()


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        ([{"price": 1.0}, {"price": 2.0}], "target 'kind': no training row has a value"),
        ([{"price": "x", "kind": "a"}, {"price": "y", "kind": "b"}], "target 'price': 2 of 2 target values are no"),
        ([{"price": 1.0, "kind": "a"}, {"price": 2.0, "kind": "a"}], "target 'kind': all 2 rows"),
    ],
)
def test_what_does_not_fit_a_task_names_its_target(rows: Any, text: str) -> None:
    with pytest.raises(TargetError, match=text):
        fitted(rows=rows)


def test_a_value_that_training_did_not_have_and_unknown_metrics_are_refused() -> None:
    task = fitted()
    with pytest.raises(TargetError, match=r"target 'kind': .*'owl'"):
        task.encode([{"kind": "owl"}])
    with pytest.raises(OptionError, match=r"'accuracy'; did you mean 'kind.accuracy'"):
        task.evaluate(logits(6), torch.from_numpy(task.encode(ROWS)), ["accuracy"])
    with pytest.raises(TargetError, match="no rows"):
        task.evaluate(torch.zeros(0, 4), torch.zeros(0, 4))


def test_rows_without_any_target_are_told_or_skipped() -> None:
    table = read_table({"p": [1.0, None, float("inf"), 5.0], "k": ["a", "b", None, None]})
    target = TargetColumn(table, {"price": "p", "kind": "k"})
    splits = {"train": np.arange(4)}
    with pytest.raises(TargetError, match=r"1 row has no value in any of the target columns 'p', 'k' \(first: .*3"):
        target.known(splits, skip=False)
    kept, messages = target.known(splits, skip=True)
    assert kept["train"].tolist() == [0, 1, 3]
    assert len(messages) == 1


def test_records_are_read_as_dicts_in_which_what_is_not_finite_is_missing() -> None:
    records = TargetRecords.of(ROWS, ["price", "kind"])
    assert records[3] == {"price": None, "kind": "cat"}
    assert records[1:3] == [{"price": 4.0, "kind": None}, {"price": None, "kind": "dog"}]
    assert list(records.select(np.array([5, 0]))) == [{"price": 7.0, "kind": None}, {"price": 1.0, "kind": "cat"}]
    mixed = TargetRecords.of([{"price": [1, "a"]}, {}], ["price"])  # Arrow has no type for it
    assert list(mixed) == [{"price": [1, "a"]}, {"price": None}]
    assert mixed.missing().tolist() == [False, True]


def test_a_random_split_is_drawn_by_the_first_target_that_has_classes() -> None:
    task = fitted()
    assert stratifying(task, {"test": 0.5}) == "kind"
    target = TargetColumn(read_table({"p": [1.0, 2.0, 3.0], "k": ["a", "b", "a"]}), {"price": "p", "kind": "k"})
    classes = target.classes(task, {"test": 0.5})
    assert classes is not None
    assert classes.tolist() == [0, 1, 0]


def test_logits_and_scores_are_told_apart_where_their_sizes_add_up_to_the_same() -> None:
    class Wide(type(registry.build("task", "regression"))):  # type: ignore[misc]
        @property
        def num_logits(self) -> int:
            return self.num_outputs + self.more

        def scores(self, logits: Tensor) -> Tensor:
            return logits[:, : self.num_outputs] if logits.shape[1] == self.num_logits else logits

    first, second = Wide(), Wide()
    first.more, second.more = 1, -1
    tasks = {"one": first, "two": second}
    task = several(dict.fromkeys(tasks, Wide))(tasks, dict.fromkeys(tasks, 1.0))
    task.fit([{"one": float(at), "two": [float(at), 2.0 * at]} for at in range(4)])
    assert (task.num_outputs, task.num_logits) == (3, 4)
    assert dict(task.heads) == {"one": 2, "two": 1}
