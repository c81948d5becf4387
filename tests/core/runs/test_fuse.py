"""Models that were trained apart become one run, which is a run like any other."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import toys

import mmreg
from mmreg.errors import DeviceError, OptionError, RecipeError, RunError
from mmreg.runs.fuse import fuse

TABLE = toys.rows(600, absent=0.1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of each modality alone, and one of both that fuses their features."""
    toys.register()
    base = tmp_path_factory.mktemp("runs")
    settings: dict[str, dict[str, Any]] = {
        "a": {"modalities": {"a": {"type": "numbers"}}, "fusion": None},
        "b": {"modalities": {"b": {"type": "numbers"}}, "fusion": None},
        "both": {},
        "product": {"fusion": "product"},
        "ev_a": {"modalities": {"a": {"type": "numbers"}}, "fusion": "evidential"},
        "ev_b": {"modalities": {"b": {"type": "numbers"}}, "fusion": "evidential"},
    }
    for name, changes in settings.items():
        recipe = toys.recipe(TABLE, key="id", **changes)
        mmreg.train(recipe, base / name, device="cpu", overrides=["training.epochs=8"])
    return base


@pytest.fixture(autouse=True)
def _toys() -> None:
    toys.register()


def probabilities(predictions: list[dict[str, Any]]) -> np.ndarray:
    return np.array([[row[f"probability_{label}"] for label in "wxyz"] for row in predictions])


@pytest.mark.parametrize("fusion", ["mean", "product", "weighted", "stacking", "calibrated", "vote"])
def test_runs_of_different_modalities_are_combined(folder: Path, tmp_path: Path, fusion: str) -> None:
    run = fuse([folder / "a", folder / "b"], fusion, tmp_path / "fused", device="cpu")
    alone = mmreg.load(folder / "a").report["test"]["metrics"]["accuracy"]
    # Mixtures and votes are less sharp than products.
    gain = 0.1 if fusion in ("product", "stacking", "calibrated") else 0.0
    assert run.report["test"]["metrics"]["accuracy"] > alone + gain
    assert run.report["test"]["metrics"]["modalities"]["a"]["accuracy"] == pytest.approx(
        mmreg.load(folder / "a").evaluate(_present(TABLE, "a", "test"))["metrics"]["accuracy"]
    )


def _present(rows: list[dict[str, Any]], name: str, split: str) -> list[dict[str, Any]]:
    return [row for row in rows if row[name] is not None and row["split"] == split]


@pytest.mark.parametrize("report", ["7", "[]", "null", "[" * 100_000])
def test_runs_are_combined_by_their_predictions_whatever_became_of_their_reports(
    folder: Path, tmp_path: Path, report: str
) -> None:
    for name in ("a", "b"):
        shutil.copytree(folder / name, tmp_path / name)
    (tmp_path / "a" / "report.json").write_text(report)
    found = fuse([tmp_path / "a", tmp_path / "b"], "mean", tmp_path / "fused", device="cpu").report["test"]
    assert found["metrics"] == fuse([folder / "a", folder / "b"], "mean", tmp_path / "both").report["test"]["metrics"]


def test_a_product_is_the_product_of_what_the_runs_predict(folder: Path, tmp_path: Path) -> None:
    run = fuse([folder / "a", folder / "b"], "product", tmp_path / "fused", device="cpu")
    rows = toys.rows(40, seed=7)
    expected = probabilities(mmreg.load(folder / "a").predict(rows)) * probabilities(
        mmreg.load(folder / "b").predict(rows)
    )
    expected /= expected.sum(1, keepdims=True)
    np.testing.assert_allclose(probabilities(run.predict(rows)), expected, rtol=1e-4, atol=1e-6)


def test_a_combination_loads_evaluates_and_is_combined_again(folder: Path, tmp_path: Path) -> None:
    first = fuse([folder / "a", folder / "b"], "stacking", tmp_path / "one", device="cpu")
    again = mmreg.load(tmp_path / "one", "cpu")
    rows = toys.rows(30, seed=3)
    assert first.predict(rows) == again.predict(rows)
    table = [row for row in TABLE if row["split"] == "test"]
    measured = again.evaluate(table)["metrics"]["accuracy"]
    assert measured == pytest.approx(first.report["test"]["metrics"]["accuracy"])
    nested = fuse([tmp_path / "one", folder / "both", folder / "product"], "mean", tmp_path / "two", device="cpu")
    expected = np.mean(
        [
            probabilities(mmreg.load(path, "cpu").predict(rows))
            for path in (tmp_path / "one", folder / "both", folder / "product")
        ],
        axis=0,
    )
    np.testing.assert_allclose(probabilities(nested.predict(rows)), expected, rtol=1e-4, atol=1e-6)


def test_runs_whose_operators_have_the_same_names_are_combined(folder: Path, tmp_path: Path) -> None:
    fusion = {"name": "mean", "of": [{"name": "concat", "of": ["a"]}, "b"], "own_loss": {"concat": 0.5, "b": 2.0}}
    for seed in (1, 2):
        recipe = toys.recipe(toys.rows(), key="id", fusion=fusion)
        changes = ["training.epochs=2", f"training.seed={seed}"]
        mmreg.train(recipe, tmp_path / str(seed), device="cpu", overrides=changes)
    run = fuse([tmp_path / "1", tmp_path / "2"], "mean", tmp_path / "fused", device="cpu")
    rows = toys.rows(30, seed=3)
    expected = [probabilities(mmreg.load(tmp_path / name, "cpu").predict(rows)) for name in ("1", "2")]
    np.testing.assert_allclose(probabilities(run.predict(rows)), np.mean(expected, axis=0), rtol=1e-4, atol=1e-6)
    assert run.plan.fusion is not None
    losses = [part.own_losses for part in run.plan.fusion.of if not isinstance(part, str)]
    assert losses == [{"concat": 0.5, "1_b": 2.0}, {"concat_2": 0.5, "2_b": 2.0}]
    assert list(run.report["test"]["metrics"]["modalities"]) == ["1", "2"]


def test_runs_that_fuse_are_called_by_their_folders_among_the_figures(folder: Path, tmp_path: Path) -> None:
    run = fuse([folder / "both", folder / "product"], "mean", tmp_path / "fused", device="cpu")
    assert list(run.report["test"]["metrics"]["modalities"]) == ["both", "product"]
    again = mmreg.load(tmp_path / "fused", "cpu").evaluate(_present(TABLE, "a", "test"))
    assert {"both", "product"} < set(again["metrics"]["modalities"])  # and what the one is made of
    same = tmp_path / "both"
    shutil.copytree(folder / "both", same)
    run = fuse([folder / "both", same, tmp_path / "fused"], "mean", tmp_path / "more", device="cpu")
    assert list(run.report["test"]["metrics"]["modalities"]) == ["both1", "both2", "fused"]


@pytest.mark.parametrize("fusion", ["mean", "product", "vote", "stacking"])
def test_rows_without_any_modality_get_the_prior_in_the_report_as_well(tmp_path: Path, fusion: str) -> None:
    random = np.random.default_rng(0)
    table = toys.rows(200, absent=0.4)
    table = [{**row, "label": "z" if random.random() < 0.7 else row["label"]} for row in table]
    for name in "ab":
        recipe = toys.recipe(table, key="id", modalities={name: {"type": "numbers"}}, fusion=None)
        mmreg.train(recipe, tmp_path / name, device="cpu", overrides=["training.epochs=2"])
    run = fuse([tmp_path / "a", tmp_path / "b"], fusion, tmp_path / "fused", device="cpu")
    test = [row for row in table if row["split"] == "test"]
    assert any(row["a"] is None and row["b"] is None for row in test)
    assert run.report["test"]["metrics"]["accuracy"] == run.evaluate(test)["metrics"]["accuracy"]
    written = pq.read_table(tmp_path / "fused" / "predictions" / "test.parquet").to_pylist()
    np.testing.assert_allclose(probabilities(written), probabilities(run.predict(test)), rtol=1e-4, atol=1e-6)


def test_rows_that_one_run_was_trained_on_are_not_measured_on(tmp_path: Path) -> None:
    """Each run has its own random split, so that rows held out by one taught the other."""
    table = [{key: value for key, value in row.items() if key != "split"} for row in toys.rows(200)]
    pq.write_table(pa.Table.from_pylist(table), tmp_path / "table.parquet")
    for seed, name in enumerate("ab"):
        recipe = toys.recipe(
            str(tmp_path / "table.parquet"), key="id", modalities={name: {"type": "numbers"}}, fusion=None
        )
        recipe["split"] = {"validation": 0.3, "test": 0.3}
        changes = ["training.epochs=2", f"training.seed={seed}"]
        mmreg.train(recipe, tmp_path / name, device="cpu", overrides=changes)
    run = fuse([tmp_path / "a", tmp_path / "b"], "mean", tmp_path / "fused", device="cpu")
    written = [pq.read_table(tmp_path / name / "predictions" / "test.parquet")["id"].to_pylist() for name in "ab"]
    common = set(written[0]) & set(written[1])
    assert run.report["test"]["rows"] == len(common) < len(written[0])
    for again in (run, mmreg.load(tmp_path / "fused", "cpu")):
        known = again.known_rows()
        assert {table[row]["id"] for row in known.rows} == common
        assert again.evaluate()["metrics"]["accuracy"] == pytest.approx(run.report["test"]["metrics"]["accuracy"])
    with pytest.raises(RunError, match="no train rows that all of them predicted"):
        run.evaluate(split="train")


def test_runs_on_different_tables_are_evaluated_on_the_one_given(tmp_path: Path) -> None:
    table = toys.rows(200)
    tables = {"a": table, "b": table[::-1]}
    for name, rows in tables.items():
        recipe = toys.recipe(rows, key="id", modalities={name: {"type": "numbers"}}, fusion=None)
        mmreg.train(recipe, tmp_path / name, device="cpu", overrides=["training.epochs=2"])
    run = fuse([tmp_path / "a", tmp_path / "b"], "stacking", tmp_path / "fused", device="cpu")
    with pytest.raises(RunError, match=r"combined of runs on different tables: pass the table .* --split test"):
        run.evaluate()
    measured = run.evaluate(table, split="test")["metrics"]["accuracy"]
    assert measured == pytest.approx(run.report["test"]["metrics"]["accuracy"])


def test_a_key_that_names_different_rows_is_refused(folder: Path, tmp_path: Path) -> None:
    labels = [row["label"] for row in TABLE]
    changed = [{**row, "label": label} for row, label in zip(TABLE, labels[1:] + labels[:1], strict=True)]
    recipe = toys.recipe(changed, key="id", modalities={"b": {"type": "numbers"}}, fusion=None)
    mmreg.train(recipe, tmp_path / "b", device="cpu", overrides=["training.epochs=1"])
    with pytest.raises(RunError, match=r"has the target .* the same 'id' must name the same row"):
        fuse([folder / "a", tmp_path / "b"], "mean", tmp_path / "fused", device="cpu")


@pytest.mark.parametrize("key", ["target", "scores", "modalities", "label", "row"])
def test_any_column_may_be_the_key(tmp_path: Path, key: str) -> None:
    names = {"label": "class", "id": key}
    table = [{names.get(name, name): value for name, value in row.items()} for row in toys.rows(60)]
    pq.write_table(pa.Table.from_pylist(table), tmp_path / "table.parquet")
    for name in "ab":
        recipe = toys.recipe(
            str(tmp_path / "table.parquet"), key=key, modalities={name: {"type": "numbers"}}, fusion=None
        )
        recipe["target"] = {"column": "class"}
        mmreg.train(recipe, tmp_path / name, device="cpu", overrides=["training.epochs=1"])
    run = fuse([tmp_path / "a", tmp_path / "b"], "mean", tmp_path / "fused", device="cpu")
    again = fuse([tmp_path / "fused", tmp_path / "a"], "mean", tmp_path / "again", device="cpu")
    assert run.report["test"]["rows"] == again.report["test"]["rows"] == run.evaluate()["rows"] == 12


def test_runs_that_share_their_names_are_combined_with_what_they_made(folder: Path, tmp_path: Path) -> None:
    fuse([folder / "a", folder / "a"], "mean", tmp_path / "twice", device="cpu")
    run = fuse([folder / "a", folder / "a", tmp_path / "twice"], "mean", tmp_path / "clash", device="cpu")
    rows = toys.rows(20, seed=4)
    expected = probabilities(mmreg.load(folder / "a", "cpu").predict(rows))
    np.testing.assert_allclose(probabilities(run.predict(rows)), expected, rtol=1e-4, atol=1e-6)


def test_a_combination_has_a_report_and_takes_no_run_s_place(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "a", tmp_path / "a")
    runs = [tmp_path / "a", folder / "b"]
    with pytest.raises(RunError, match="is one of the runs to combine"):
        fuse(runs, "mean", tmp_path / "a", overwrite=True, device="cpu")
    shutil.copytree(folder / "both", tmp_path / "fused")
    (tmp_path / "fused" / "curves.png").touch()
    with pytest.raises(RunError, match="name another folder or replace it by --overwrite"):
        fuse(runs, "mean", tmp_path / "fused", device="cpu")
    fuse(runs, "mean", tmp_path / "fused", overwrite=True, device="cpu")
    text = (tmp_path / "fused" / "report.md").read_text(encoding="utf-8")
    assert "Combined of these runs" in text
    assert str(tmp_path / "a") in text
    assert "| test" in text
    assert not (tmp_path / "fused" / "curves.png").exists()
    with pytest.raises(DeviceError):
        fuse(runs, "mean", tmp_path / "no", device="cuda:77")
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize("fusion", [None, {"l2": 1}, ["mean"], {"name": "stacking", "of": ["a"]}])
def test_an_operator_is_named_and_nothing_else(folder: Path, tmp_path: Path, fusion: Any) -> None:
    with pytest.raises(OptionError, match="fusion"):
        fuse([folder / "a", folder / "b"], fusion, tmp_path / "fused", device="cpu")


def test_damaged_predictions_and_keys_that_differ_are_told(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "a", tmp_path / "a")
    (tmp_path / "a" / "predictions" / "validation.parquet").write_text("no")
    with pytest.raises(RunError, match=r"validation\.parquet is damaged"):
        fuse([tmp_path / "a", folder / "b"], "mean", tmp_path / "fused", device="cpu")
    recipe = toys.recipe(TABLE, modalities={"b": {"type": "numbers"}}, fusion=None)
    mmreg.train(recipe, tmp_path / "keyless", device="cpu", overrides=["training.epochs=1"])
    with pytest.raises(RunError, match=r"has id and .*keyless has none: give every recipe the same `key`"):
        fuse([folder / "a", tmp_path / "keyless"], "mean", tmp_path / "fused", device="cpu")


def test_evidence_is_combined_from_runs_that_were_trained_for_it(folder: Path, tmp_path: Path) -> None:
    run = fuse([folder / "ev_a", folder / "ev_b"], "evidential", tmp_path / "fused", device="cpu")
    prediction = run.predict(toys.rows(1))[0]
    assert 0 < prediction["uncertainty"] <= 1
    assert run.report["test"]["metrics"]["accuracy"] > 0.7
    with pytest.raises(RunError, match="trained without it"):
        fuse([folder / "ev_a", folder / "b"], "evidential", tmp_path / "no", device="cpu")


def test_stacking_never_looks_at_test_rows(folder: Path, tmp_path: Path) -> None:
    first = fuse([folder / "a", folder / "b"], "stacking", tmp_path / "clean", device="cpu")
    for name in "ab":
        shutil.copytree(folder / name, tmp_path / name)
        path = tmp_path / name / "predictions" / "test.parquet"
        table = pq.read_table(path)
        shuffled = table.column("target").take(np.random.default_rng(0).permutation(len(table)))
        pq.write_table(table.set_column(table.column_names.index("target"), "target", shuffled), path)
    second = fuse([tmp_path / "a", tmp_path / "b"], "stacking", tmp_path / "poisoned", device="cpu")
    for key, value in first.model.state_dict().items():
        assert torch.equal(value, second.model.state_dict()[key])


def test_what_cannot_be_combined_is_refused_with_the_reason(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "fused"
    with pytest.raises(RunError, match="at least two runs"):
        fuse([folder / "a"], "mean", out)
    with pytest.raises(RunError, match="need a model-level operator"):
        fuse([folder / "a", folder / "b"], "concat", out)
    with pytest.raises(RunError, match="reads features"):
        fuse([folder / "a", folder / "b"], "gated", out)
    with pytest.raises(RecipeError, match="l3"):
        fuse([folder / "a", folder / "b"], {"name": "stacking", "l3": 1}, out)
    with pytest.raises(RunError, match="already"):
        fuse([folder / "a", folder / "b"], "mean", folder / "both")
    other = [{**row, "label": row["label"].upper()} for row in toys.rows(100)]
    mmreg.train(toys.recipe(other, key="id"), tmp_path / "upper", device="cpu")
    mmreg.train(toys.recipe(toys.rows(100), key="id", missing=["NA"]), tmp_path / "marked", device="cpu")
    with pytest.raises(RunError, match=r"different texts for absent cells \(missing: \[\] and \['NA'\]\)"):
        fuse([folder / "a", tmp_path / "marked"], "mean", out)
    with pytest.raises(RunError, match="learned different targets"):
        fuse([folder / "a", tmp_path / "upper"], "mean", out)
    renamed = [{**row, "id": f"x{row['id']}"} for row in toys.rows(100)]
    mmreg.train(toys.recipe(renamed, key="id"), tmp_path / "strange", device="cpu")
    with pytest.raises(RunError, match="no validation row in common"):
        fuse([folder / "a", tmp_path / "strange"], "mean", out)
    keyless = toys.recipe(toys.rows(100))
    mmreg.train(keyless, tmp_path / "keyless", device="cpu")
    mmreg.train(toys.recipe(toys.rows(100, seed=9)), tmp_path / "other", device="cpu", overrides=["training.epochs=1"])
    with pytest.raises(RunError, match="different tables are matched by a key"):
        fuse([tmp_path / "other", tmp_path / "keyless"], "mean", out)
    assert not out.exists()


def test_regressions_are_combined_where_it_has_a_meaning(tmp_path: Path) -> None:
    table = [{**row, "y": float(sum(row["a"]) - sum(row["b"]))} for row in toys.rows(200)]
    for name in "ab":
        recipe = toys.recipe(table, modalities={name: {"type": "numbers"}}, fusion=None)
        recipe["target"] = {"column": "y", "task": "regression"}
        mmreg.train(recipe, tmp_path / name, device="cpu", overrides=["training.epochs=20"])
    alone = mmreg.load(tmp_path / "a").report["test"]["metrics"]["rmse"]
    run = fuse([tmp_path / "a", tmp_path / "b"], "stacking", tmp_path / "fused", device="cpu")
    assert run.report["test"]["metrics"]["rmse"] < 0.8 * alone
    with pytest.raises(RecipeError, match="cannot combine predictions of the task"):
        fuse([tmp_path / "a", tmp_path / "b"], "product", tmp_path / "no")
