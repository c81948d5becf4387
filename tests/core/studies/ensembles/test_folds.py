"""Cross-validation: every row is predicted by the training that has not seen it, and operators are fitted on that."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import toys

import mmreg
from mmreg import runs
from mmreg.errors import OptionError, RecipeError, RunError
from mmreg.recipe.recipe import read_recipe
from mmreg.runs.folder import read_report
from mmreg.studies.ensembles.folds import measure_apart

TABLE = toys.rows(120, absent=0.1)


@pytest.fixture(autouse=True)
def _toys() -> None:
    toys.register()


def recipe(**changes: Any) -> dict[str, Any]:
    return toys.recipe(TABLE, **{"key": "id", "split": {"validation": 0.2}, **changes})


def alone(name: str) -> dict[str, Any]:
    return {"modalities": {name: {"type": "numbers"}}, "fusion": None}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Cross-validated runs of each modality alone."""
    toys.register()
    base = tmp_path_factory.mktemp("folds")
    for name in "ab":
        mmreg.cross_validate(recipe(**alone(name)), base / name, folds=3, device="cpu")
    return base


def test_each_row_is_predicted_by_the_run_that_has_not_seen_it(folder: Path) -> None:
    table = runs.read_predictions(folder / "a", runs.OUT_OF_FOLD)
    assert table is not None
    assert sorted(table.column("id").to_pylist()) == sorted(row["id"] for row in TABLE)
    assert sorted(set(table.column("fold").to_pylist())) == [1, 2, 3]
    by_id = {row["id"]: row for row in TABLE}
    for fold in (1, 2, 3):
        run = mmreg.load(folder / "a" / f"fold-{fold}", "cpu")
        own = [row for row in table.to_pylist() if row["fold"] == fold]
        again = run.predict([by_id[row["id"]] for row in own])
        expected = [[row[f"probability_{label}"] for label in "wxyz"] for row in again]
        np.testing.assert_allclose(np.exp([row["scores"] for row in own]), expected, atol=1e-6)
        assert run.evaluate(rows_of(run, "test"))["rows"] == len(own)
        seen = [row["id"] for split in ("train", "validation") for row in rows_of(run, split)]
        assert not {row["id"] for row in own} & set(seen)
        assert len(own) + len(seen) == len(TABLE)


def test_what_frozen_encoders_give_is_not_computed_again_for_the_test_rows(tmp_path: Path) -> None:
    encoder = {"name": "counting", "freeze": True}
    changes = {"modalities": {"a": {"type": "numbers", "encoder": encoder}, "b": {"type": "numbers"}}}
    given = recipe(**changes, split="split")
    run = mmreg.cross_validate(given, tmp_path, folds=2, device="cpu").run
    toys.Counting.rows.clear()
    measure_apart(run, read_recipe(given))
    assert sum(toys.Counting.rows) < 16  # some are looked at
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mmreg.studies.ensembles.folds.with_features", lambda run, prepared: prepared)
        measure_apart(run, read_recipe(given))
    assert sum(toys.Counting.rows) >= 2 * 20
    computed = mmreg.load(tmp_path, "cpu").report["test"]["metrics"]
    assert run.report["test"]["metrics"]["accuracy"] == pytest.approx(computed["accuracy"], abs=1e-6)


def rows_of(run: mmreg.Run, split: str) -> list[dict[str, Any]]:
    from mmreg.experiment import open_experiment
    from mmreg.recipe.resolve import resolve

    plan = resolve(run.plan.recipe.replace({"table": TABLE}))
    return [TABLE[number] for number in open_experiment(plan).splits[split]]


def test_the_report_has_each_fold_and_their_mean_and_deviation(folder: Path) -> None:
    report = read_report(folder / "a")
    each = [read_report(folder / "a" / f"fold-{fold}")["test"] for fold in (1, 2, 3)]
    accuracies = [figures["metrics"]["accuracy"] for figures in each]
    assert [fold["metrics"]["accuracy"] for fold in report["folds"]] == accuracies
    assert report["metrics"]["accuracy"]["mean"] == pytest.approx(np.mean(accuracies))
    assert report["metrics"]["accuracy"]["deviation"] == pytest.approx(np.std(accuracies, ddof=1))
    rows = [figures["rows"] for figures in each]
    assert report["out_of_fold"]["rows"] == sum(rows) == len(TABLE)
    together = report["out_of_fold"]["metrics"]
    assert together["accuracy"] == pytest.approx(np.average(accuracies, weights=rows))


def test_the_run_predicts_by_the_mean_of_all_folds(folder: Path) -> None:
    new = toys.rows(30, seed=9)
    of_folds = [mmreg.load(folder / "a" / f"fold-{fold}", "cpu").predict(new) for fold in (1, 2, 3)]
    expected = np.mean([[[row[f"probability_{c}"] for c in "wxyz"] for row in rows] for rows in of_folds], 0)
    predicted = mmreg.load(folder / "a", "cpu").predict(new)
    np.testing.assert_allclose([[row[f"probability_{c}"] for c in "wxyz"] for row in predicted], expected, atol=1e-6)


def test_operators_are_fitted_on_predictions_out_of_fold(folder: Path, tmp_path: Path) -> None:
    run = mmreg.fuse([folder / "a", folder / "b"], "stacking", tmp_path / "fused", device="cpu")
    figures = {name: read_report(folder / name)["out_of_fold"]["metrics"]["accuracy"] for name in "ab"}
    fused = run.report["out_of_fold"]
    assert fused["rows"] == len(TABLE)
    assert fused["metrics"]["accuracy"] > max(figures.values()) + 0.1
    assert fused["metrics"]["modalities"]["a"]["accuracy"] == pytest.approx(figures["a"], abs=0.1)
    new = toys.rows(60, seed=9)
    assert mmreg.load(tmp_path / "fused", "cpu").evaluate(new)["metrics"]["accuracy"] > max(figures.values())


def test_rows_for_testing_are_seen_by_no_fold_and_measure_the_run_of_all(tmp_path: Path) -> None:
    test = [row for row in TABLE if row["split"] == "test"]
    run = mmreg.cross_validate(recipe(split="split"), tmp_path / "run", folds=2, device="cpu").run
    out_of_fold, written = (runs.read_predictions(tmp_path / "run", split) for split in (runs.OUT_OF_FOLD, "test"))
    assert out_of_fold is not None
    assert written is not None
    assert written.column("id").to_pylist() == [row["id"] for row in test]
    assert not {*out_of_fold.column("id").to_pylist()} & {*written.column("id").to_pylist()}
    assert len(out_of_fold) + len(written) == len(TABLE)
    expected = mmreg.load(tmp_path / "run", "cpu").evaluate(test)["metrics"]
    assert run.report["test"]["metrics"] == expected
    (tmp_path / "table.jsonl").write_text("".join(json.dumps(row) + "\n" for row in TABLE))
    given = {**recipe(split="split"), "table": str(tmp_path / "table.jsonl")}
    again = mmreg.cross_validate(given, tmp_path / "again", folds=2, device="cpu").run
    assert mmreg.load(again.folder, "cpu").evaluate()["metrics"] == again.report["test"]["metrics"]
    with pytest.raises(RunError, match="have no validation rows that all of them predicted"):
        mmreg.load(again.folder, "cpu").evaluate(split="validation")


def test_the_run_of_all_folds_says_that_its_figures_are_those_out_of_fold(tmp_path: Path) -> None:
    (tmp_path / "table.jsonl").write_text("".join(json.dumps(row) + "\n" for row in TABLE))
    given = {**recipe(**alone("a")), "table": str(tmp_path / "table.jsonl")}
    mmreg.cross_validate(given, tmp_path / "run", folds=2, device="cpu")
    run = mmreg.load(tmp_path / "run", "cpu")
    told = "measured out of fold: the figures are in .*report.json; give a table to measure it on other rows"
    with pytest.raises(RunError, match=told):
        run.evaluate()
    assert run.evaluate(toys.rows(30, seed=9))["rows"] == 30


def test_a_class_that_the_recipes_own_split_would_not_train_on_does_not_hide_that(tmp_path: Path) -> None:
    """Every row is in the folds, so a class in one validation row of the recipe's own split is known to the run."""
    rows = [{**row, "label": "v" if row["split"] == "validation" else row["label"]} for row in TABLE]
    (tmp_path / "table.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = {**recipe(**alone("a"), split="split"), "table": str(tmp_path / "table.jsonl")}
    mmreg.cross_validate(given, tmp_path / "run", folds=2, device="cpu", overrides=["training.epochs=1"])
    run = mmreg.load(tmp_path / "run", "cpu")
    assert run.evaluate()["metrics"]["accuracy"] == run.report["test"]["metrics"]["accuracy"]
    with pytest.raises(RunError, match="measured out of fold"):
        run.evaluate(split="validation")


def test_numbers_are_measured_in_the_units_of_the_folds_and_not_of_the_recipes_own_split(tmp_path: Path) -> None:
    far = {"validation": 40.0}
    rows = [{**row, "y": row["a"][0] + far.get(row["split"], 0.0)} for row in toys.rows(120)]
    (tmp_path / "table.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = {**recipe(**alone("a"), split="split"), "table": str(tmp_path / "table.jsonl")}
    given["target"] = {"column": "y", "task": "regression"}
    mmreg.cross_validate(given, tmp_path / "run", folds=2, device="cpu", overrides=["training.epochs=1"])
    run = mmreg.load(tmp_path / "run", "cpu")
    assert run.evaluate()["metrics"]["mae"] == pytest.approx(run.report["test"]["metrics"]["mae"])


@pytest.mark.parametrize("split", [{"validation": 0.2}, "split"])
def test_those_who_follow_are_told_of_the_end_when_all_figures_are_there(tmp_path: Path, split: Any) -> None:
    run = mmreg.cross_validate(recipe(split=split), tmp_path / "run", folds=2, device="cpu").run
    text = (tmp_path / "run/report.md").read_text()
    accuracy = run.report["out_of_fold"]["metrics"]["accuracy"]
    assert f"| out of fold | all | {run.report['out_of_fold']['rows']} | {accuracy:.4g} |" in text
    assert ("| test | all |" in text) is (split == "split")
    lines = [line for line in text.splitlines() if line.startswith(("| fold-1 |", "| fold-2 |", "| mean |"))]
    assert len(lines) >= 3


def test_what_is_finished_is_kept_and_what_was_stopped_goes_on(tmp_path: Path) -> None:
    whole = mmreg.cross_validate(recipe(), tmp_path / "whole", folds=3, device="cpu")
    told: list[str] = []

    class Stopping(mmreg.Callback):
        def on_progress(self, what: str, done: int, total: int, note: str = "") -> None:
            told.append(note)
            if "fold-2, seed 0, epoch 2" in note:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        mmreg.cross_validate(recipe(), tmp_path / "run", folds=3, device="cpu", callback=Stopping())
    kept = (tmp_path / "run/fold-1" / runs.WEIGHTS).stat().st_mtime_ns
    with pytest.raises(RunError, match="go on with it by --resume, or replace it by --overwrite"):
        mmreg.cross_validate(recipe(), tmp_path / "run", folds=3, device="cpu")
    with pytest.raises(RunError, match="made with another recipe or table"):
        mmreg.cross_validate(recipe(), tmp_path / "run", folds=4, device="cpu", resume=True)
    with pytest.raises(RunError, match="is not made of seeds"):
        mmreg.train_seeds(recipe(), tmp_path / "run", seeds=[0, 1], device="cpu", resume=True)
    mmreg.cross_validate(recipe(), tmp_path / "run", folds=3, device="cpu", resume=True)
    assert (tmp_path / "run/fold-1" / runs.WEIGHTS).stat().st_mtime_ns == kept
    for fold in whole.trained:
        toys.assert_same(tmp_path / "whole" / fold, tmp_path / "run" / fold)
    report = tmp_path / "run/fold-2" / runs.REPORT
    before = report.read_text()
    report.write_text('{"test": {"rows": 3, "metrics": 7}}')
    with pytest.raises(RunError, match=r"fold-2 measured cannot be read: report\.json holds no figures under 'test'"):
        mmreg.cross_validate(recipe(), tmp_path / "run", folds=3, device="cpu", resume=True)
    report.write_text(before)
    mmreg.cross_validate(recipe(), tmp_path / "run", folds=3, device="cpu", overwrite=True)
    assert (tmp_path / "run/fold-1" / runs.WEIGHTS).stat().st_mtime_ns != kept


def test_numbers_are_predicted_in_the_same_units_by_all_folds(tmp_path: Path) -> None:
    table = [{**row, "y": float(number % 7) * 10} for number, row in enumerate(TABLE)]
    given = {**recipe(**alone("a")), "table": table, "target": {"column": "y", "task": "regression"}}
    ensemble = mmreg.cross_validate(given, tmp_path / "run", folds=2, device="cpu")
    written = runs.read_predictions(tmp_path / "run", runs.OUT_OF_FOLD)
    assert written is not None
    errors = np.abs(np.array(written.column("value").to_pylist()) - written.column("target").to_numpy())
    assert ensemble.run.report["out_of_fold"]["metrics"]["mae"] == pytest.approx(errors.mean(), rel=1e-5)


@pytest.mark.parametrize(
    ("changes", "options", "told"),
    [
        ({}, {"folds": 1}, "at least 2 folds, found 1"),
        ({}, {"jobs": 0}, "jobs must be at least 1"),
        ({"split": {"folds": 3, "fold": 1}}, {}, "has folds already"),
        ({"split": {"folds": 3, "fold": 4}}, {}, "fold must be one of 1 to 3, found 4"),
        ({"split": {"fold": 1}}, {}, "fold and column go with folds"),
        ({"split": {"folds": 2, "fold": 1, "test": 0.1}}, {}, "leave test out"),
        ({"split": "none"}, {}, "no column 'none'"),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_trained(
    tmp_path: Path, changes: dict[str, Any], options: dict[str, Any], told: str
) -> None:
    with pytest.raises((OptionError, RecipeError), match=told):
        mmreg.cross_validate(recipe(**changes), tmp_path / "run", device="cpu", **options)
    assert not (tmp_path / "run").exists()


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match="holds something else"):
        mmreg.cross_validate(recipe(), tmp_path, device="cpu", overwrite=True)
    assert (tmp_path / "notes.txt").read_text() == "mine"
