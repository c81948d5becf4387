"""A recipe with several targets: the first learns what it does alone, and a run of them can do what any can."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import toys
from toys import NOISY, Listening, assert_same, recipe

import mmreg
from mmreg import registry, runs
from mmreg.contract.metrics import by_target, figure_rows
from mmreg.errors import RecipeError, RunError, TableError, ValidationRowsError
from mmreg.experiment import checked_plan, open_experiment
from mmreg.recipe.recipe import Recipe
from mmreg.runs.fuse import fuse
from mmreg.studies.compare import compare

COUNT = 40


@pytest.fixture(autouse=True)
def _toys() -> None:
    toys.register()


def rows(missing: bool = True) -> list[dict[str, Any]]:
    """Rows with two inputs, a number and a class to predict, some of which lack one of the two."""
    random = np.random.default_rng(3)
    found = []
    for at in range(COUNT):
        a, b = random.normal(size=4), random.normal(size=4)
        row: dict[str, Any] = {"a": a.tolist(), "b": b.tolist(), "id": at}
        row |= {"price": float(2 + 3 * a[0] - b[1]), "kind": ("cat", "dog", "emu")[int(a[1] > 0) + int(b[0] > 0.5)]}
        row["split"] = ("train", "train", "train", "validation", "test")[at % 5]
        if missing and at % 4 == 1:
            row["price"] = None
        elif missing and at % 6 == 2:
            row["kind"] = None
        found.append(row)
    return found


PRICE = {"column": "price", "task": "regression"}
KIND = {"column": "kind"}


def changed(targets: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    """The recipe of the toys with these targets; changes of `training` are added to it."""
    training, missing = changes.pop("training", {}), changes.pop("missing", True)
    data = recipe(rows(missing), **changes)
    del data["target"]
    return {**data, "targets": dict(targets), "key": "id", "training": {**data["training"], **training}}


def trained(folder: Path, targets: Mapping[str, Any], **changes: Any) -> mmreg.Run:
    keys = ("resume", "callback", "overwrite")
    options = {key: changes.pop(key) for key in keys if key in changes}
    return mmreg.train(changed(targets, **changes), folder, device="cpu", **options)


BOTH = {"price": {**PRICE, "loss_weight": "uncertainty"}, "kind": {**KIND, "loss_weight": "uncertainty"}}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> mmreg.Run:
    toys.register()
    return trained(tmp_path_factory.mktemp("several") / "run", BOTH, metrics=["kind.brier"])


@pytest.mark.parametrize(("name", "target"), [("price", PRICE), ("kind", KIND)])
def test_a_target_beside_one_that_weighs_nothing_is_trained_as_alone(
    tmp_path: Path, name: str, target: dict[str, Any]
) -> None:
    """The first target's head begins with the weights of a recipe's only one, and the losses are the same."""
    other = {"price": {"kind": {**KIND, "loss_weight": 0.0}}, "kind": {"price": {**PRICE, "loss_weight": 0.0}}}[name]
    noisy = {**NOISY, "fusion": "concat"}
    # Adam makes steps of rounding errors where a gradient is zero, as those of biases before a norm are.
    last = {"keep": "last", "optimizer": {"name": "SGD", "lr": 0.05}}
    several = trained(tmp_path / "several", {name: target, **other}, missing=False, training=last, **noisy)
    single = recipe(rows(False), **noisy) | {"target": target, "key": "id"}
    single["training"] = {**single["training"], **last}
    alone = mmreg.train(single, tmp_path / "alone", device="cpu")
    columns = several.task.targets()[name].scores(torch.arange(several.task.num_logits)).tolist()
    expected = alone.model.state_dict()
    for key, tensor in several.model.state_dict().items():
        own = tensor[columns] if "head" in key or key == "prior" else tensor
        torch.testing.assert_close(own, expected[key], rtol=1e-5, atol=1e-6)
    first, second = (each.report["test"]["metrics"] for each in (several, alone))
    for key in registry.build("task", target.get("task", "classification")).metrics:
        if isinstance(second.get(key), float):
            assert first[f"{name}.{key}"] == pytest.approx(second[key], rel=1e-5)


def test_a_saved_run_predicts_the_same_and_has_learned_the_weights_of_the_losses(run: mmreg.Run) -> None:
    weights = runs.read_weights(run.folder / runs.WEIGHTS)
    assert weights["task_module.log_variances"].abs().min() > 0
    loaded = runs.load(run.folder, "cpu")
    assert loaded.task.state() == run.task.state()
    given = [{key: row[key] for key in ("a", "b", "id")} for row in rows()[:6]]
    assert loaded.predict(given) == run.predict(given)
    assert loaded.evaluate(rows(), split="test")["metrics"] == run.report["test"]["metrics"]
    metrics = run.report["test"]["metrics"]
    assert {"relative_loss", "price.mae", "kind.accuracy", "kind.brier"} <= set(metrics)
    learned = torch.exp(-weights["task_module.log_variances"]) * torch.tensor([0.5, 1.0])
    assert [metrics["targets"][name]["loss_weight"] for name in ("price", "kind")] == pytest.approx(learned.tolist())


def test_predictions_have_columns_of_each_target_and_the_targets_that_are_known(run: mmreg.Run) -> None:
    written = pq.read_table(run.folder / runs.PREDICTIONS / "test.parquet")
    assert {"id", "price.value", "kind.label", "kind.probability_cat", "modalities"} <= set(written.column_names)
    test = [row for row in rows() if row["split"] == "test"]
    assert written["target"].to_pylist() == [{"price": row["price"], "kind": row["kind"]} for row in test]


def test_what_lacks_a_target_is_told_and_counts_for_the_other(run: mmreg.Run) -> None:
    notes = run.report["notes"]
    assert "target 'price': 10 rows have no value, of 40; they count for the other targets alone" in notes
    known = [row["kind"] is not None for row in rows() if row["split"] == "test"]
    assert run.report["test"]["metrics"]["targets"]["kind"]["rows"] == sum(known)


def test_a_part_is_told_with_the_rows_that_have_it_and_the_target(tmp_path: Path) -> None:
    given = changed({"price": PRICE, "kind": KIND}, fusion="mean")
    for row in given["table"][:10]:
        row["a"] = None
    figures = mmreg.train(given, tmp_path / "run", device="cpu").evaluate(given["table"])
    for target, own in by_target(figures).items():
        if target:
            there = [row for row in given["table"] if row[target] is not None]
            told = {row["part"]: row["rows"] for row in figure_rows(own) if row["part"] in "ab"}
            assert told == {name: sum(row[name] is not None for row in there) for name in "ab"}
            assert own["rows"] == len(there)


def test_another_table_may_lack_a_target_but_not_all_of_them(run: mmreg.Run) -> None:
    without = [{key: each for key, each in row.items() if key != "price"} for row in rows(False)]
    metrics = run.evaluate(without)["metrics"]
    assert metrics["targets"]["price"]["rows"] == 0
    assert metrics["targets"]["kind"]["rows"] == COUNT
    with pytest.raises(RunError, match="1 row has no 'price' nor 'kind' to compare with"):
        run.evaluate([*rows(False), {"a": [0.0] * 4, "b": [0.0] * 4, "id": 99}])
    with pytest.raises(TableError, match="no column"):
        run.evaluate([{"a": [0.0] * 4, "b": [0.0] * 4, "id": 99}])


def test_a_training_that_was_stopped_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    whole = trained(tmp_path / "whole", BOTH, **NOISY)
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "stopped", BOTH, callback=Listening(2), **NOISY)
    trained(tmp_path / "stopped", BOTH, resume=True, **NOISY)
    assert_same(whole.folder, tmp_path / "stopped")


@pytest.mark.parametrize(
    "changes",
    [
        {"fusion": "stacking"},
        {"fusion": {"name": "mean", "joint_loss": True, "own_loss": {"a": 0.5}}},
        {"fusion": {"name": "concat", "of": [{"name": "gated", "of": ["a"]}, "b"]}},
        {"fusion": {"name": "weighted", "own_loss": "gradient_blending"}},
        {"fusion": {"name": "concat", "absent": "learned"}, "training": {"modality_dropout": 0.3}},
        {"training": {"balance": "own_losses", "keep": "soup"}},
        {"training": {"balance": "mmpareto", "average": 0.9}},
    ],
    ids=["fitted", "joint", "nested", "blended", "absent", "own losses", "pareto"],
)
def test_what_a_model_is_made_of_goes_with_several_targets(tmp_path: Path, changes: dict[str, Any]) -> None:
    made = trained(tmp_path / "run", BOTH, **changes)
    again = runs.load(made.folder, "cpu")
    given = [{key: row[key] for key in ("a", "b", "id")} for row in rows()[:4]]
    for one, other in zip(again.predict(given), made.predict(given), strict=True):
        assert one == pytest.approx(other)


def test_an_operator_for_each_target_gives_what_it_gives_for_one_alone(tmp_path: Path) -> None:
    """The mean of the parts: of numbers their mean, of classes the mean of the probabilities."""
    made = trained(tmp_path / "run", {"price": PRICE, "kind": KIND}, fusion="mean")
    written = pq.read_table(made.folder / runs.PREDICTIONS / "test.parquet")
    whole, a, b = (torch.tensor(written[name].to_pylist()) for name in ("scores", "scores/a", "scores/b"))
    torch.testing.assert_close(whole[:, 0], (a[:, 0] + b[:, 0]) / 2)
    torch.testing.assert_close(whole[:, 1:].exp(), (a[:, 1:].exp() + b[:, 1:].exp()) / 2)


def test_runs_of_the_same_targets_are_combined_and_those_of_others_are_not(run: mmreg.Run, tmp_path: Path) -> None:
    other = trained(tmp_path / "other", BOTH, training={"seed": 1})
    combined = fuse([run.folder, other.folder], "mean", tmp_path / "fused", device="cpu")
    assert {"price.mae", "kind.accuracy"} <= set(combined.report["test"]["metrics"])
    single = trained(tmp_path / "single", {"price": PRICE, "sort": KIND})
    with pytest.raises(RunError, match=r"is a price \(regression\), kind .*, .*sort \(classification\)"):
        fuse([run.folder, single.folder], "mean", tmp_path / "none", device="cpu")


def test_the_weights_of_a_run_are_chosen_by_the_metric_that_is_named(tmp_path: Path) -> None:
    made = trained(tmp_path / "run", BOTH, training={"metric": "kind.accuracy"})
    assert made.report["best"]["metric"] == "kind.accuracy"
    assert runs.load(made.folder, "cpu").plan.metric == "kind.accuracy"


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"target": KIND}, "targets: several targets stand instead of target: give one of the two keys"),
        ({"targets": {"a.b": KIND}}, "targets.a.b: a target's name must not be empty nor hold"),
        ({"targets": {"kind": {**KIND, "loss_weight": 0}}}, "targets: every loss_weight is 0"),
        (
            {"targets": {"kind": {**KIND, "task": "classificatio"}}},
            "kind.task: .*did you mean 'classification'",
        ),
        ({"targets": {"kind": {**KIND, "loss": "l1"}}}, "targets.kind.loss: is no option"),
        ({"targets": {"kind": {**KIND, "loss_weight": "kendall"}}}, "targets.kind.loss_weight: "),
        ({"fusion": "vote"}, r"vote cannot combine predictions of the task 'regression' \(target 'price'\); .* mean"),
        ({"fusion": "evidential"}, "evidential trains its parts by a loss of its own"),
        ({"training": {"balance": "ogm_ge"}}, "ogm_ge has no meaning for several targets"),
        ({"training": {"class_balance": 0.5}}, "class_balance: of several targets none says which rows are rare"),
        ({"training": {"metric": "accuracy"}}, "'accuracy' names no target's metric; did you mean 'kind.accuracy'"),
        ({"training": {"metric": "price.brier"}}, "brier has no meaning for the task 'regression'"),
        ({"metrics": [{"name": "kind.accuracy", "k": 1}]}, "kind.accuracy is the task's own metric"),
        ({"targets": {"kind": {"column": "kin"}}}, "targets.kind.column: .*no column 'kin'; did you mean 'kind'"),
    ],
)
def test_what_does_not_go_with_several_targets_is_told(changes: dict[str, Any], text: str) -> None:
    data = changed({"price": PRICE, "kind": KIND})
    data = {**data, **changes, "training": {**data["training"], **changes.get("training", {})}}
    with pytest.raises(RecipeError, match=text):
        open_experiment(checked_plan(Recipe(data)))


def test_a_recipe_without_any_target_is_told() -> None:
    data = {key: each for key, each in changed({}).items() if key != "targets"}
    with pytest.raises(RecipeError, match="target: is missing; or targets, for several"):
        checked_plan(Recipe(data))


def test_a_split_by_a_target_is_told(tmp_path: Path) -> None:
    data = changed({"price": PRICE, "kind": KIND}, missing=False) | {"split": {"validation": 0.2, "test": 0.2}}
    made = mmreg.train(data, tmp_path / "run", device="cpu")
    assert "the split is stratified by the target 'kind'" in made.report["notes"]


def test_the_recipe_of_a_run_is_the_one_that_it_was_trained_with(run: mmreg.Run) -> None:
    data = run.plan.to_data()
    assert "target" not in data
    assert data["targets"]["price"] == {**BOTH["price"], "weight": None, "loss": "mse"}
    assert data["metrics"] == [{"name": "kind.mmreg:brier"}]
    again = runs.load(run.folder, "cpu")
    assert json.dumps(again.plan.to_data()["targets"]) == json.dumps(data["targets"])


def test_weights_are_not_chosen_by_a_target_that_no_validation_row_has(tmp_path: Path) -> None:
    table = [{**row, "price": None if row["split"] == "validation" else 1.0 + row["id"]} for row in rows(False)]
    data = {**changed({"price": PRICE, "kind": KIND}), "table": table}
    for metric, targets in (("price.mae", {}), (None, {"kind": {**KIND, "loss_weight": 0}})):
        wrong = {**data, "targets": {**data["targets"], **targets}, "training": {**data["training"], "metric": metric}}
        told = r"the metric '(price.mae|relative_loss)' chooses the weights, but none of the 8 validation rows has a "
        with pytest.raises(ValidationRowsError, match=f"{told}value of .*'price'"):
            mmreg.train(wrong, tmp_path / "run", device="cpu")
        assert not (tmp_path / "run" / "metrics.csv").exists(), "before the first epoch"
    assert "kind.accuracy" in mmreg.train(data, tmp_path / "run", device="cpu").report["validation"]["metrics"]


def test_validation_rows_that_cannot_be_loaded_choose_no_weights(tmp_path: Path) -> None:
    table = rows(False)
    for row in table:
        if row["split"] == "validation":
            row["price"] = 1.0 if row["id"] == 3 else None
            row["a"] = [math.nan] * 4 if row["id"] == 3 else row["a"]
    data = {**changed({"price": PRICE, "kind": KIND}, training={"metric": "price.mae"}), "table": table}
    data |= {"on_bad": "skip", "modalities": {"a": {"type": "vector"}, "b": {"type": "vector"}}}
    with pytest.raises(ValidationRowsError, match="none of the 7 validation rows has a value of the target 'price'"):
        mmreg.train(data, tmp_path / "run", device="cpu")
    assert not (tmp_path / "run" / "metrics.csv").exists(), "before the first epoch"


def test_another_version_of_one_target_s_task_is_told(
    run: mmreg.Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    task = type(run.task.target_tasks["price"])
    for version in (2, 0):
        monkeypatch.setattr(task, "version", version)
        caplog.clear()
        runs.load(run.folder, "cpu")
        told = f"task.price of the run {run.folder} was saved by version 1 of regression"
        assert [told in text for text in caplog.messages] == [True], caplog.messages


def test_a_comparison_shows_the_main_metric_of_each_target(run: mmreg.Run, tmp_path: Path) -> None:
    other = trained(tmp_path / "other", BOTH, training={"seed": 1})
    table = compare({"first": run.folder, "other": other.folder}, resamples=100).table()
    assert list(table[0])[:4] == ["variant", "relative_loss", "price.mae", "kind.accuracy"]
    assert all(float(row["price.mae"]) > 0 for row in table)
