"""Operators of model level in a training: what is fitted last, what nests, and what is told of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import toys
from toys import Listening, train

import mmreg
from mmreg_fusion.model_level.stacking import Stacking


@pytest.fixture(autouse=True)
def _toys() -> None:
    toys.register()


def test_stacking_is_fitted_on_all_validation_rows_and_no_others(tmp_path: Path) -> None:
    listening = Listening()
    run = train(tmp_path / "run", fusion="stacking", callback=listening)
    table = pq.read_table(run.folder / "predictions/validation.parquet").to_pydict()
    scores = {name: torch.tensor(table[f"scores/{name}"]) for name in "ab"}
    refitted = Stacking({"a": 1, "b": 1}, num_outputs=len(scores["a"][0]), space="log_probabilities")
    present = torch.ones(len(table["target"]), 2, dtype=torch.bool)
    refitted.fit(scores, present, torch.from_numpy(run.task.encode(table["target"])))
    torch.testing.assert_close(run.model.root.fusion.cpu().weight, refitted.weight, rtol=0, atol=1e-4)
    assert any(text.startswith("stacking was fitted on the") for text in listening.messages)


@pytest.mark.parametrize("inner", ["product", "evidential", "concat"])
def test_evidence_is_drawn_from_combinations_as_from_models(tmp_path: Path, inner: str) -> None:
    fusion = {"name": "evidential", "of": [{"name": inner, "of": ["a", "b"]}]}
    run = train(tmp_path / "run", toys.rows(400), fusion=fusion, overrides=["training.epochs=25"])
    rows = [row for row in toys.rows(400) if row["split"] == "test"]
    predictions = run.predict(rows)
    sure = [max(row[f"probability_{label}"] for label in "wxyz") for row in predictions]
    assert run.evaluate(rows)["metrics"]["accuracy"] > 0.9
    assert np.mean(sure) > 0.42  # of log-probabilities taken for logits, evidence gives 0.34
    assert np.mean([row["uncertainty"] for row in predictions]) < 0.6


def test_what_operators_below_the_top_tell_of_a_row_keeps_their_names(tmp_path: Path) -> None:
    fusion = {"name": "mean", "of": [{"name": "evidential", "of": [name]} for name in "ab"]}
    run = train(tmp_path / "run", fusion=fusion)
    rows = [{**row, "b": None} for row in toys.rows(20)]
    for row in run.predict(rows):
        assert 0 < row["evidential_uncertainty"] < 1
        assert row["evidential_2_uncertainty"] == 1
        assert "uncertainty" not in row


@pytest.mark.parametrize("outer", ["concat", "weighted", "mean"])
def test_an_operator_that_is_fitted_below_what_is_trained_says_so(tmp_path: Path, outer: str) -> None:
    fusion = {"name": outer, "of": [{"name": "stacking", "of": ["a"]}, "b"]}
    run = train(tmp_path / "run", fusion=fusion)
    told = "stacking was fitted after what is above it had learned from its unfitted scores"
    assert any(note.startswith(told) for note in run.report["notes"]) == (outer != "mean")


def test_a_class_that_no_validation_row_has_is_told_of_where_an_operator_is_fitted(tmp_path: Path) -> None:
    table = [row for row in toys.rows() if (row["split"], row["label"]) != ("validation", "w")]
    told = "stacking learned nothing of classes that no validation row has: 1 of 4"
    trained = train(tmp_path / "run", table, fusion="stacking")
    assert any(note.startswith(told) for note in trained.report["notes"])
    for name in "ab":
        train(tmp_path / name, table, key="id", modalities={name: {"type": "numbers"}}, fusion=None)
    fused = mmreg.fuse([tmp_path / "a", tmp_path / "b"], "stacking", tmp_path / "fused", device="cpu")
    assert any(note.startswith(told) for note in fused.report["notes"])
