"""A training without a target column, from the recipe to what begins with its encoders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import toys
from toys import Listening, assert_same

import mmreg
from mmreg import runs
from mmreg.errors import OptionError, RecipeError, RunError, TableError
from mmreg.runs.folder import read_report
from mmreg.studies.compare.analysis import compare
from mmreg.studies.compare.grid import run_grid
from mmreg.studies.ensembles.folds import cross_validate
from mmreg.studies.ensembles.seeds import train_seeds
from mmreg.studies.robustness import evaluate_robustness, run_matrix


@pytest.fixture(autouse=True)
def _toys() -> None:
    toys.register()


def pairs(count: int = 240, absent: float = 0.0, seed: int = 0) -> list[dict[str, Any]]:
    """Rows of two vectors that tell the same of four numbers, each in its own way."""
    random = np.random.default_rng(seed)
    turns = [np.linalg.qr(random.normal(size=(4, 4)))[0] for _ in "ab"]
    rows = []
    for number in range(count):
        hidden = random.normal(size=4)
        row: dict[str, Any] = {"id": f"r{number}", "split": ("train", "train", "validation", "test")[number % 4]}
        for name, turn in zip("ab", turns, strict=True):
            row[name] = None if random.random() < absent else (hidden @ turn + random.normal(0, 0.05, 4)).tolist()
        rows.append(row)
    return rows


def recipe(table: Any, **changes: Any) -> dict[str, Any]:
    encoder = {"name": "linear", "features": 16}
    return {
        "table": table,
        "split": "split",
        "key": "id",
        "target": {"task": "contrastive", "features": 8},
        "modalities": {name: {"type": "numbers", "encoder": encoder} for name in "ab"},
        "training": {"epochs": 12, "batch_size": 30, "optimizer": {"name": "Adam", "lr": 0.02}, "deterministic": True},
        **changes,
    }


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    toys.register()
    folder = tmp_path_factory.mktemp("pairs") / "run"
    mmreg.train(recipe(pairs()), folder, device="cpu")
    return folder


def test_pairs_are_found_far_above_chance(trained: Path) -> None:
    report = read_report(trained)
    for split in ("validation", "test"):
        assert report[split]["rows"] == 60
        assert report[split]["metrics"]["recall_at_5"] > 0.8  # 0.08 by chance
        assert report[split]["metrics"]["mrr"] > 0.6
    assert report["best"]["metric"] == "mrr"


def test_what_is_written_tells_similarities_and_no_target(trained: Path) -> None:
    written = pq.read_table(trained / "predictions" / "test.parquet")
    assert written.column_names == ["id", "similarity_a_b", "modalities", "scores"]
    assert np.mean(written.column("similarity_a_b").to_pylist()) > 0.5
    assert all(len(scores) == 16 for scores in written.column("scores").to_pylist())


def test_the_run_is_loaded_to_the_same_predictions_and_figures(trained: Path) -> None:
    table = pairs()
    run = mmreg.load(trained, "cpu")
    written = pq.read_table(trained / "predictions" / "test.parquet").to_pylist()
    again = {row["id"]: row for row in run.predict(table)}
    assert all(again[row["id"]]["similarity_a_b"] == pytest.approx(row["similarity_a_b"]) for row in written)
    figures = run.evaluate(table, split="test")
    assert figures["rows"] == 60
    assert figures["metrics"]["mrr"] == pytest.approx(read_report(trained)["test"]["metrics"]["mrr"])


def test_rows_with_one_side_are_predicted_and_measured_as_no_pairs(trained: Path) -> None:
    rows = [{"id": each["id"], "a": each["a"], "b": each["b"]} for each in pairs(12)]
    rows[0]["b"] = rows[1]["a"] = rows[2]["a"] = rows[2]["b"] = None
    run = mmreg.load(trained, "cpu")
    predicted = [row["similarity_a_b"] for row in run.predict(rows)]
    assert [value is None for value in predicted] == [True] * 3 + [False] * 9
    figures = run.evaluate(rows)
    assert figures["rows"] == 12
    assert figures["rows_without_any_modality"] == 1
    assert figures["metrics"]["per_direction"]["a to b"]["rows"] == 9


@pytest.mark.parametrize("average", [None, 0.9])
def test_a_training_that_was_stopped_goes_on_bit_for_bit(tmp_path: Path, average: float | None) -> None:
    given = recipe(pairs(absent=0.2))
    given["training"] |= {"epochs": 3, "average": average, "modality_dropout": 0.1}
    mmreg.train(given, tmp_path / "whole", device="cpu")
    with pytest.raises(KeyboardInterrupt):
        mmreg.train(given, tmp_path / "stopped", device="cpu", callback=Listening(6))
    mmreg.train(given, tmp_path / "stopped", device="cpu", resume=True)
    assert_same(tmp_path / "whole", tmp_path / "stopped")


def test_the_temperature_is_trained_and_kept_with_the_weights(trained: Path) -> None:
    weights = runs.read_weights(trained / runs.WEIGHTS)
    module = mmreg.load(trained, "cpu").task.module
    assert module is not None
    assert float(module().detach()) != pytest.approx(0.07, rel=1e-3)
    assert torch.equal(module.state_dict()["raised"], weights["task_module.raised"])


def test_training_rows_that_never_have_both_sides_are_refused(tmp_path: Path) -> None:
    table = pairs(48)
    for number, row in enumerate(table):
        row["ab"[number % 2]] = None
    with pytest.raises(TableError, match="there are no two training rows with two modalities or more"):
        mmreg.train(recipe(table), tmp_path / "run", device="cpu")


def test_negatives_are_those_of_the_batch_also_where_gradients_are_added_up(tmp_path: Path) -> None:
    """Two batches a step have the mean of their own losses, not the loss of all their rows together."""
    losses = {}
    for name, training in {"together": {"batch_size": 120}, "apart": {"batch_size": 60, "accumulate": 2}}.items():
        given = recipe(pairs())
        given["training"] = {"epochs": 1, "max_steps": 1, "optimizer": {"name": "SGD", "lr": 0.0}, **training}
        mmreg.train(given, tmp_path / name, device="cpu")
        losses[name] = float((tmp_path / name / runs.METRICS).read_text().splitlines()[1].split(",")[3])
    assert losses["apart"] < losses["together"] - 0.5  # about log 2


def test_another_recipe_begins_with_its_encoders(trained: Path, tmp_path: Path) -> None:
    table = [{**row, "label": "yes" if sum(row["a"]) > 0 else "no"} for row in pairs()]
    encoder = {"from": str(trained), "freeze": True}
    given = {
        "table": table,
        "split": "split",
        "target": {"column": "label"},
        "modalities": {"a": {"type": "numbers", "encoder": encoder}, "b": {"type": "numbers"}},
        "fusion": "concat",
        "training": {"epochs": 2, "batch_size": 30},
    }
    run = mmreg.train(given, tmp_path / "run", device="cpu")
    earlier = runs.read_weights(trained / runs.WEIGHTS)
    own = runs.read_weights(tmp_path / "run" / runs.WEIGHTS)
    names = [name for name in earlier if name.startswith("encoders.a.")]
    assert names
    assert all(torch.equal(own[name], earlier[name]) for name in names)
    assert "accuracy" in run.report["test"]["metrics"]


def test_a_pair_with_a_modality_that_is_not_there_is_refused(tmp_path: Path) -> None:
    given = recipe(pairs(), target={"task": "contrastive", "between": [["a", "c"]]})
    with pytest.raises(RecipeError, match=r"target: between: there is no modality .c.; there are a, b"):
        mmreg.train(given, tmp_path / "run", device="cpu")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"target": {"task": "contrastive", "column": "id"}},
            "target.column: the task 'contrastive' predicts no column",
        ),
        ({"target": {"task": "classification"}}, "target.column: is missing: the task 'classification' predicts one"),
        ({"fusion": "concat"}, "fusion: the task 'contrastive' takes the features of each modality apart"),
        ({"fusion": "product"}, "fusion: the task 'contrastive' takes the features of each modality apart"),
        ({"training": {"balance": "ogm_ge"}}, "training.balance: ogm_ge balances several modalities .* here none does"),
        ({"training": {"class_balance": 0.5}}, "training.class_balance: the task 'contrastive' has no classes"),
        ({"training": {"mixup": 0.2}}, "training.mixup: mixes targets, and the task 'contrastive' has none"),
        ({"training": {"metric": "accuracy"}}, "training.metric: the task 'contrastive' has no metric 'accuracy'"),
        (
            {"metrics": ["concordance"]},
            "concordance has no meaning for the task 'contrastive', whose scores are vec",
        ),
    ],
)
def test_what_needs_a_target_or_a_fusion_is_refused_by_name(changes: dict[str, Any], told: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=told):
        mmreg.train(recipe(pairs(8), **changes), tmp_path / "run", device="cpu")


def test_one_modality_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="contrastive needs two modalities or more, found a"):
        mmreg.train(recipe(pairs(8), modalities={"a": {"type": "numbers"}}), tmp_path / "run", device="cpu")


def test_a_split_by_shares_needs_no_label_and_cannot_be_stratified(tmp_path: Path) -> None:
    table = [{name: row[name] for name in "ab"} for row in pairs(60)]
    given = recipe(table, split={"validation": 0.2, "test": 0.2}, key=None)
    given["training"]["epochs"] = 1
    run = mmreg.train(given, tmp_path / "run", device="cpu")
    assert run.report["test"]["rows"] == 12
    with pytest.raises(TableError, match="stratify needs a target of classes or labels"):
        mmreg.train({**given, "split": {"stratify": True}}, tmp_path / "other", device="cpu")


def test_studies_that_go_by_predictions_refuse_it_before_they_train(tmp_path: Path) -> None:
    given, told = recipe(pairs(8)), "the task 'contrastive' has no target, so there are no predictions for"
    for study in (
        lambda out: run_grid(given, out),
        lambda out: run_matrix(given, out),
        lambda out: cross_validate(given, out),
        lambda out: train_seeds(given, out, seeds=(0, 1)),
    ):
        with pytest.raises(OptionError, match=told):
            study(tmp_path / "study")
    assert not (tmp_path / "study").exists()


def test_runs_of_it_are_neither_combined_nor_compared_nor_measured_without_a_side(
    trained: Path, tmp_path: Path
) -> None:
    with pytest.raises(RunError, match="is a contrastive, which has no target"):
        mmreg.fuse([trained, trained], "mean", tmp_path / "fused")
    with pytest.raises(RunError, match="is a contrastive, which has no target"):
        compare({"one": [trained], "two": [trained]})
    run = mmreg.load(trained, "cpu")
    for lacking in ({"missing": True}, {"rates": [0.5]}):
        with pytest.raises(OptionError, match="rows that lack one tell nothing of it"):
            evaluate_robustness(run, pairs(), **lacking)
    corrupted = evaluate_robustness(run, pairs(), corruptions=["a:noise=2"])
    clean, noisy = (point["metrics"]["mrr"] for point in corrupted["corruptions"][0]["strengths"])
    assert clean > noisy > 0


def test_the_mean_over_augmented_versions_is_predicted(tmp_path: Path) -> None:
    given = recipe(pairs(80))
    given["training"]["epochs"] = 1
    for name in "ab":
        given["modalities"][name] = {"type": "numbers", "noise": 0.3}
    run = mmreg.train(given, tmp_path / "run", device="cpu")
    assert 0 < run.evaluate(split="test", augmented=3)["metrics"]["mrr"] <= 1


def test_absent_sides_have_no_influence_on_the_model(trained: Path) -> None:
    """A row that lacks one side has zeros for it, whatever the other rows of its batch have."""
    run = mmreg.load(trained, "cpu")
    rows = [{"id": str(number), "a": row["a"], "b": row["b"]} for number, row in enumerate(pairs(6))]
    rows[3]["a"] = None
    whole = run.predict(rows)
    alone = run.predict([rows[3]])
    assert alone[0]["similarity_a_b"] is None
    assert whole[3]["modalities"] == alone[0]["modalities"]
    json.dumps(whole, allow_nan=False)


def test_rows_that_are_no_pair_are_told_and_none_gets_a_prior(tmp_path: Path) -> None:
    rows = pairs(80)
    for number in (0, 4, 8):  # of the training rows
        rows[number]["a"] = None
    rows[8]["b"] = None
    listening = Listening()
    training = {"epochs": 1, "batch_size": 20}
    mmreg.train(recipe(rows, training=training), tmp_path / "run", device="cpu", callback=listening)
    told = "3 train rows have fewer than two modalities, which is no pair: nothing is learned or measured of them"
    assert told in listening.messages
    assert not any("prior" in text for text in listening.messages)
