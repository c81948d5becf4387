"""Ordinal, quantile and survival targets of docs/training.md, trained on tables whose right answers are known."""

import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from scipy import stats
from small import call

import mmreg
from mmreg.errors import MmregError, RecipeError, RunError, TableError, TargetError
from mmreg.studies.compare import compare
from mmreg_tasks.survival_metrics import c_index

PAGE = (Path(__file__).parents[3] / "docs" / "training.md").read_text(encoding="utf-8")
TARGETS = {
    target["task"]: target
    for target in (yaml.safe_load(block)["target"] for block in re.findall(r"```yaml\n(target: .*\n)```", PAGE))
}
ENCODER = {"name": "mlp", "hidden": [16], "features": 8}
ROWS = 500
HAZARDS = np.log([2.0, 3.0])
"""How much one more of each of the two causes makes the event likelier at any time, in log."""


def make_table():
    """Two vectors a row, of which the first numbers tell all that is to be known of the targets."""
    random = np.random.default_rng(0)
    a, b = random.normal(size=(2, ROWS, 2))
    quality = a[:, 0] + b[:, 0] + 0.3 * random.normal(size=ROWS)
    price = 50 + 3 * a[:, 0] + np.exp(b[:, 0] / 2) * random.normal(size=ROWS)
    days = random.exponential(np.exp(-(HAZARDS[0] * a[:, 0] + HAZARDS[1] * b[:, 0])))
    watched = random.exponential(2, ROWS)
    return {
        "id": list(range(ROWS)),
        "a": a.tolist(),
        "b": b.tolist(),
        "verdict": np.array(["bad", "fair", "good"])[np.digitize(quality, [-0.7, 0.7])].tolist(),
        "price": price.tolist(),
        "days": np.minimum(days, watched).round(2).tolist(),
        "died": np.where(days <= watched, "yes", "no").tolist(),
    }


def as_rows(table):
    return [dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)]


TABLE = make_table()
ROW_DICTS = as_rows(TABLE)
CAUSES = np.array([[a[0], b[0]] for a, b in zip(TABLE["a"], TABLE["b"], strict=True)])


def recipe(task, inputs=("a", "b"), fusion="concat", epochs=12, **training):
    return {
        "table": "table.parquet",
        "key": "id",
        "target": TARGETS[task],
        "split": {"validation": 0.2, "test": 0.2},
        "modalities": {name: {"type": "vector", "encoder": ENCODER} for name in inputs},
        **({"fusion": fusion} if len(inputs) > 1 else {}),
        "training": {
            "epochs": epochs,
            "batch_size": 64,
            "optimizer": {"name": "AdamW", "lr": 0.02},
            **training,
        },
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A table, and for each task a run of both inputs and one of each."""
    folder = tmp_path_factory.mktemp("tasks")
    pq.write_table(pa.table(TABLE), folder / "table.parquet")
    for task in TARGETS:
        for name, inputs, epochs in (("both", ("a", "b"), 12), ("a", ("a",), 2), ("b", ("b",), 2)):
            path = folder / f"{task}-{name}.yaml"
            path.write_text(yaml.safe_dump(recipe(task, inputs, epochs=epochs)))
            mmreg.train(path, folder / task / name)
    return folder


def test_the_page_has_an_example_of_each():
    assert set(TARGETS) == {"ordinal", "quantile", "survival"}


def test_an_order_is_recovered(folder):
    run = mmreg.load(folder / "ordinal" / "both")
    figures = run.report["test"]["metrics"]
    assert figures["quadratic_kappa"] > 0.8
    assert figures["mae"] < figures["baseline"]["mae"] / 2
    columns = run.predict_columns(ROW_DICTS)
    rank = [["bad", "fair", "good"].index(label) for label in columns["label"]]
    assert stats.spearmanr(rank, CAUSES.sum(1)).statistic > 0.9
    assert list(columns)[1:6] == ["label", "probability", "probability_bad", "probability_fair", "probability_good"]


def test_quantiles_are_recovered(folder):
    run = mmreg.load(folder / "quantile" / "both")
    figures = run.report["test"]["metrics"]
    assert figures["pinball"] < 0.6 * figures["baseline"]["pinball"]
    assert 0.65 < figures["coverage"] < 0.93
    columns = run.predict_columns(ROW_DICTS)
    # Of a normal distribution the outer ones are 1.28 deviations from the mean.
    middle, deviation = 50 + 3 * CAUSES[:, 0], np.exp(CAUSES[:, 1] / 2)
    for name, normal in (("q0.1", -1.2816), ("q0.5", 0.0), ("q0.9", 1.2816)):
        errors = np.abs(np.array(columns[name]) - (middle + normal * deviation))
        assert np.median(errors) < 0.5, name
    width = np.array(columns["q0.9"]) - np.array(columns["q0.1"])
    assert (width >= 0).all()
    assert stats.spearmanr(width, deviation).statistic > 0.7


def test_hazard_ratios_are_recovered(folder):
    run = mmreg.load(folder / "survival" / "both")
    risks = np.array(run.predict_columns(ROW_DICTS)["risk"])
    slopes = np.linalg.lstsq(np.c_[CAUSES, np.ones(ROWS)], risks, rcond=None)[0][:2]
    assert slopes == pytest.approx(HAZARDS, abs=0.3)
    times, events = np.array(TABLE["days"]), np.array(TABLE["died"]) == "yes"
    best = c_index(CAUSES @ HAZARDS, times, events)
    assert run.evaluate(ROW_DICTS)["metrics"]["c_index"] == pytest.approx(c_index(risks, times, events), abs=1e-6)
    assert c_index(risks, times, events) > best - 0.02


@pytest.mark.parametrize("task", TARGETS)
def test_runs_of_models_trained_apart_are_combined_where_that_means_something(task, folder, tmp_path):
    parts = [folder / task / name for name in ("a", "b")]
    fused = mmreg.fuse(parts, "mean", tmp_path / "mean")
    metric = fused.task.main_metric
    alone = [mmreg.load(part).report["test"]["metrics"][metric] for part in parts]
    found = fused.report["test"]["metrics"]
    assert [found["modalities"][name][metric] for name in ("a", "b")] == pytest.approx(alone, abs=1e-5)
    if task == "ordinal":
        for operator in ("stacking", "evidential", "product", "vote", "calibrated"):
            if operator != "evidential":
                mmreg.fuse(parts, operator, tmp_path / operator)
        mmreg.train({**recipe(task, fusion="evidential", epochs=1), "table": TABLE}, tmp_path / "evidential")
    else:
        with pytest.raises(MmregError, match=f"stacking cannot combine predictions of the task '{task}'"):
            mmreg.fuse(parts, "stacking", tmp_path / "stacking")
        with pytest.raises(MmregError, match="these can: gated, mean, weighted"):
            mmreg.train({**recipe(task, fusion="product"), "table": TABLE}, tmp_path / "product")


def test_the_mean_of_risks_is_the_geometric_mean_of_hazards(folder, tmp_path):
    fused = mmreg.fuse([folder / "survival" / name for name in ("a", "b")], "mean", tmp_path / "mean")
    hazards = [np.exp(mmreg.load(folder / "survival" / name).predict_columns(ROW_DICTS)["risk"]) for name in ("a", "b")]
    np.testing.assert_allclose(
        np.exp(fused.predict_columns(ROW_DICTS)["risk"]), np.sqrt(np.prod(hazards, 0)), rtol=1e-4
    )


@pytest.mark.parametrize("task", TARGETS)
def test_commands_take_runs_of_each(task, folder, tmp_path, monkeypatch, capsys):
    run = str(folder / task / "both")
    monkeypatch.chdir(folder)
    evaluated = call(monkeypatch, capsys, "evaluate", run, "--missing", "all")
    assert evaluated.code == 0, evaluated.err
    assert mmreg.load(run).task.main_metric in evaluated.out
    out = tmp_path / "predictions.csv"
    assert call(monkeypatch, capsys, "predict", run, "table.parquet", "--out", str(out)).code == 0
    first = {"ordinal": "id,label,probability", "quantile": "id,q0.1,q0.5,q0.9", "survival": "id,risk"}[task]
    assert out.read_text().startswith(first)
    report = (folder / task / "both" / "report.md").read_text()
    told = {
        "ordinal": "## Classes (test rows)",
        "quantile": "## Quantiles (test rows)",
        "survival": "always the same risk",
    }
    assert told[task] in report


@pytest.mark.parametrize("task", TARGETS)
def test_runs_of_each_are_compared_by_what_their_labels_or_numbers_come_to(task, folder):
    found = compare({name: folder / task / name for name in ("both", "a")}, resamples=100)
    metric = mmreg.load(folder / task / "both").task.main_metric
    for variant in found.variants:
        assert variant.runs[0].figures[metric] == pytest.approx(
            mmreg.load(folder / task / variant.name).report["test"]["metrics"][metric], abs=1e-5
        )
        if task == "ordinal":
            accuracy = mmreg.load(folder / task / variant.name).report["test"]["metrics"]["accuracy"]
            assert variant.runs[0].correct.mean() == pytest.approx(accuracy)


@pytest.mark.slow
def test_a_target_of_several_columns_lives_through_folds(folder, tmp_path):
    found = mmreg.cross_validate(
        folder / "survival-a.yaml", tmp_path / "folds", folds=2, overrides=["training.epochs=1"]
    )
    assert 0 < found.run.report["out_of_fold"]["metrics"]["c_index"] < 1
    written = pq.read_table(tmp_path / "folds" / "predictions" / "out_of_fold.parquet")
    targets = dict(zip(written["id"].to_pylist(), written["target"].to_pylist(), strict=True))
    assert targets == {
        row: {"time": days, "event": died}
        for row, days, died in zip(TABLE["id"], TABLE["days"], TABLE["died"], strict=True)
    }


def test_batches_without_an_event_weights_and_rows_that_lack_a_modality_train_finitely(tmp_path):
    table = {name: column[:60] for name, column in TABLE.items()}
    table["b"] = [None if row % 3 else value for row, value in enumerate(table["b"])]
    table["weight"] = [float(row % 4) for row in range(60)]
    made = recipe("survival", fusion="weighted", epochs=2, batch_size=2, accumulate=3)
    made |= {"table": table, "target": {**TARGETS["survival"], "weight": "weight"}}
    run = mmreg.train(made, tmp_path / "run")
    assert np.isfinite(run.predict_columns(as_rows(table))["risk"]).all()


def test_a_row_without_one_of_its_target_columns_is_refused_or_skipped(tmp_path):
    table = {name: column[:60] for name, column in TABLE.items()}
    table["days"] = [None, float("nan"), *table["days"][2:]]
    made = {**recipe("survival", epochs=1), "table": table}
    with pytest.raises(TargetError, match="2 rows have no value in the target columns 'days', 'died'"):
        mmreg.train(made, tmp_path / "run")
    mmreg.train({**made, "on_bad": "skip"}, tmp_path / "run")
    facts = json.loads((tmp_path / "run" / "components.json").read_text())
    assert sum(facts["table"]["rows"].values()) == 58


def test_they_are_several_targets_of_one_model_of_which_rows_may_lack_some(tmp_path):
    table = {name: list(column) for name, column in TABLE.items()}
    table["verdict"] = [None if row % 3 == 0 else value for row, value in enumerate(table["verdict"])]
    table["died"] = [None if row % 3 == 1 else value for row, value in enumerate(table["died"])]
    made = {**recipe("survival"), "table": table, "targets": TARGETS}
    del made["target"]
    run = mmreg.train(made, tmp_path / "run")
    figures = run.report["test"]["metrics"]
    assert figures["ordinal.quadratic_kappa"] > 0.6
    assert figures["quantile.pinball"] < 0.8 * figures["baseline"]["quantile.pinball"]
    assert figures["survival.c_index"] > 0.7
    table, inputs = {name: column[:60] for name, column in TABLE.items()}, ("id", "a", "b")
    without = {name: column for name, column in table.items() if name not in ("days", "died")}
    assert rows_of_targets(run, without) == {"ordinal": 60, "quantile": 60, "survival": 0}
    survival = {name: table[name] for name in (*inputs, "days", "died")}
    assert rows_of_targets(run, survival) == {"ordinal": 0, "quantile": 0, "survival": 60}
    with pytest.raises(TableError, match="no column 'died'"):
        run.evaluate({name: column for name, column in table.items() if name != "died"})
    with pytest.raises(RunError, match="60 rows have no 'verdict' nor 'price' nor 'days', 'died' to compare with"):
        run.evaluate({**survival, "days": [None] * 60})


def rows_of_targets(run, table):
    return {name: told["rows"] for name, told in run.evaluate(table)["metrics"]["targets"].items()}


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ({"column": "days", "task": "survival"}, "reads several columns; give columns: {time: .., event: ..} instead"),
        ({"columns": {"time": "days"}, "task": "survival"}, "reads time, event, found time"),
        ({"columns": {"time": "days"}, "task": "regression"}, "reads one column; give column instead"),
        ({"task": "survival"}, "target.columns: is missing: the task 'survival' reads time, event; name it"),
        ({"column": "days", "columns": {"time": "days"}, "task": "survival"}, "give either column or"),
        ({"columns": {"time": "dayz", "event": "died"}, "task": "survival"}, "no column 'dayz'; did you mean 'days'"),
    ],
)
def test_columns_that_do_not_fit_the_task_are_told(target, words, tmp_path):
    with pytest.raises(RecipeError) as caught:
        mmreg.train({**recipe("survival"), "table": TABLE, "target": target}, tmp_path / "run")
    assert words in str(caught.value)


def test_words_as_events_are_told_with_their_column(tmp_path):
    target = {"columns": {"time": "days", "event": "verdict"}, "task": "survival"}
    with pytest.raises(TargetError, match=r"columns 'days', 'verdict', train rows: \d+ of \d+ events are neither"):
        mmreg.train({**recipe("survival"), "table": TABLE, "target": target}, tmp_path / "run")


def breslow(run, rows, time):
    """The cumulative baseline hazard until a time, of some rows as the run sees them, as its formula has it."""
    risks = np.exp(run.predict_columns(rows)["risk"])
    days, died = np.array([row["days"] for row in rows]), np.array([row["died"] == "yes" for row in rows])
    return sum(1 / risks[days >= day].sum() for day in days[died & (days <= time)])


@pytest.mark.parametrize("training", [{}, {"average": 0.9}, {"keep": "last"}], ids=str)
def test_probabilities_of_lasting_are_those_of_the_finished_model(training, folder, tmp_path):
    made = recipe("survival", epochs=3, **training)
    made |= {"table": {name: column[:200] for name, column in TABLE.items()}, "split": {"validation": 0.3, "test": 0}}
    made["target"] = {**TARGETS["survival"], "times": [0.5, 2]}
    run = mmreg.train(made, tmp_path / "run")
    loaded = mmreg.load(tmp_path / "run")
    columns = loaded.predict_columns(ROW_DICTS[:200])
    assert list(columns)[1:4] == ["risk", "survival_0.5", "survival_2"]
    assert columns == run.predict_columns(ROW_DICTS[:200])
    held_out = pq.read_table(tmp_path / "run/predictions/validation.parquet")["id"].to_pylist()
    learned = [row for row in ROW_DICTS[:200] if row["id"] not in held_out]
    for time in (0.5, 2):
        expected = np.exp(-breslow(loaded, learned, time) * np.exp(columns["risk"]))
        assert columns[f"survival_{time:g}"] == pytest.approx(expected.tolist(), abs=1e-4)


def test_combinations_learn_probabilities_anew_of_rows_that_no_run_learned_from(folder, tmp_path):
    for name in ("a", "b"):
        made = {**recipe("survival", (name,), epochs=2), "table": str(folder / "table.parquet")}
        made["target"] = {**TARGETS["survival"], "times": [1]}
        mmreg.train(made, tmp_path / name)
    parts = [tmp_path / "a", tmp_path / "b"]
    alone = [mmreg.load(part).predict_columns(ROW_DICTS)["survival_1"] for part in parts]
    fused = mmreg.fuse(parts, "mean", tmp_path / "fused")
    found = mmreg.load(tmp_path / "fused").predict_columns(ROW_DICTS)
    held_out = set(pq.read_table(tmp_path / "fused/predictions/validation.parquet")["id"].to_pylist())
    expected = breslow(fused, [row for row in ROW_DICTS if row["id"] in held_out], 1)
    assert found["survival_1"] == pytest.approx(np.exp(-expected * np.exp(found["risk"])).tolist(), abs=1e-4)
    assert [mmreg.load(part).predict_columns(ROW_DICTS)["survival_1"] for part in parts] == alone


@pytest.mark.slow
def test_folds_have_no_rows_to_learn_probabilities_from_and_say_so(folder, tmp_path):
    settings = ["training.epochs=1", "target.times=[1]"]
    found = mmreg.cross_validate(folder / "survival-a.yaml", tmp_path / "folds", folds=2, overrides=settings)
    assert any("not all runs have validation rows" in note for note in found.run.report["notes"])
    assert list(found.run.predict_columns(ROW_DICTS[:3]))[1:] == ["risk", "modalities"]


def test_a_target_beside_another_has_probabilities_of_its_own_rows(tmp_path):
    made = recipe("survival", epochs=1) | {"table": TABLE}
    del made["target"]
    quantile = {**TARGETS["quantile"]}
    made["targets"] = {"end": {**TARGETS["survival"], "times": [1]}, "price": quantile}
    mmreg.train(made, tmp_path / "run")
    columns = mmreg.load(tmp_path / "run").predict_columns(ROW_DICTS)
    assert 0 < min(columns["end.survival_1"]) < max(columns["end.survival_1"]) < 1
