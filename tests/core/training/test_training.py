"""From a table to a run folder and back: figures, repetition, resumption, what is refused."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
import toys
from safetensors.torch import load_file
from toys import Listening, train

import mmreg
from mmreg import registry
from mmreg.errors import DataError, RecipeError, RunError, TableError, TargetError, TrainingError


@pytest.fixture(autouse=True)
def _toys() -> None:
    toys.register()


@pytest.mark.parametrize("fusion", ["concat", "product", "mean", "weighted", "stacking"])
def test_two_modalities_tell_what_neither_tells_alone(tmp_path: Path, fusion: str) -> None:
    run = train(tmp_path / "run", fusion=fusion, overrides=["training.epochs=25"])
    both = run.evaluate()["metrics"]
    alone = train(tmp_path / "a", modalities={"a": {"type": "numbers"}}, fusion=None).evaluate()["metrics"]
    # A mixture (mean, weighted) votes where the others multiply, so it is less sharp.
    assert both["accuracy"] > (0.7 if fusion in ("mean", "weighted") else 0.9)
    assert alone["accuracy"] < 0.6


def test_a_run_folder_holds_what_it_promises(tmp_path: Path) -> None:
    run = train(tmp_path / "run", fusion="product", key="id")
    names = {str(path.relative_to(run.folder)) for path in run.folder.rglob("*") if path.is_file()}
    assert names >= {
        "recipe.yaml",
        "components.json",
        "model.safetensors",
        "metrics.csv",
        "timings.csv",
        "report.json",
        "predictions/test.parquet",
        "predictions/validation.parquet",
    }
    facts = json.loads((run.folder / "components.json").read_text())
    code = hashlib.blake2b(Path(toys.__file__).read_bytes(), digest_size=16).hexdigest()
    linear = {"name": "linear", "distribution": "local", "version": "", "component_version": 1, "code": code}
    assert facts["components"]["encoder/a"] == linear
    assert facts["components"]["fusion/product"]["distribution"] == "mmreg"
    with (run.folder / "metrics.csv").open() as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2", "3"]


def test_a_moved_run_loads_to_equal_outputs(tmp_path: Path) -> None:
    run = train(tmp_path / "run")
    rows = toys.rows(20, seed=5)
    before = run.predict(rows)
    shutil.move(tmp_path / "run", tmp_path / "elsewhere")
    after = mmreg.load(tmp_path / "elsewhere", device="cpu").predict(rows)
    assert before == after


def test_the_same_run_twice_is_the_same_bit_for_bit(tmp_path: Path) -> None:
    noisy = {name: {"type": "numbers", "noise": 0.1, "encoder": {"name": "linear", "dropout": 0.2}} for name in "ab"}
    for name in ("one", "two"):
        train(tmp_path / name, modalities=noisy)
    assert_same(tmp_path / "one", tmp_path / "two")


def assert_same(one: Path, two: Path) -> None:
    assert (one / "metrics.csv").read_bytes() == (two / "metrics.csv").read_bytes()
    first, second = load_file(one / "model.safetensors"), load_file(two / "model.safetensors")
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("stop_after", [1, 8, 9, 17, 24])
def test_a_stopped_training_resumes_to_the_run_that_was_not_stopped(tmp_path: Path, stop_after: int) -> None:
    settings: dict[str, Any] = {
        "modalities": {
            name: {"type": "numbers", "noise": 0.1, "encoder": {"name": "linear", "dropout": 0.2}} for name in "ab"
        },
        "fusion": "weighted",
        "overrides": ["training.modality_dropout=0.3", "training.schedule={name: cosine, warmup: 0.1}"],
    }
    train(tmp_path / "whole", **settings)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "stopped", callback=Listening(stop_after), **settings)
    with pytest.raises(RunError, match="--resume"):
        mmreg.load(tmp_path / "stopped")
    train(tmp_path / "stopped", resume=True, **settings)
    assert_same(tmp_path / "whole", tmp_path / "stopped")


def test_resuming_with_another_recipe_or_table_is_refused(tmp_path: Path) -> None:
    train(tmp_path / "run")
    with pytest.raises(RunError, match=r"another recipe:\n  training\.seed: was 0, is 3"):
        train(tmp_path / "run", resume=True, overrides=["training.seed=3"])
    with pytest.raises(RunError, match="has changed since"):
        train(tmp_path / "run", toys.rows(seed=9), resume=True)


def test_an_existing_folder_is_never_written_over_by_accident(tmp_path: Path) -> None:
    train(tmp_path / "run")
    with pytest.raises(RunError, match="--overwrite"):
        train(tmp_path / "run")
    train(tmp_path / "run", overwrite=True, overrides=["training.epochs=1"])
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("years of work")
    with pytest.raises(RunError, match="something else than a run"):
        train(tmp_path / "other", overwrite=True)
    assert (tmp_path / "other" / "thesis.tex").exists()


def test_rows_with_absent_modalities_are_trained_on_and_predicted(tmp_path: Path) -> None:
    listening = Listening()
    table = toys.rows(200, absent=0.3)
    run = train(tmp_path / "run", table, fusion="product", callback=listening, key="id")
    assert any("have no modality at all" in text for text in listening.messages)
    predictions = run.predict(table[:50])
    for row, prediction in zip(table, predictions, strict=False):
        assert prediction["id"] == row["id"]
        assert prediction["modalities"] == "+".join(name for name in "ab" if row[name] is not None)
    empty = [p for p in predictions if not p["modalities"]]
    assert empty
    prior = {label: sum(r["label"] == label for r in table[:120]) / 120 for label in "wxyz"}
    assert empty[0]["probability_w"] == pytest.approx(prior["w"], abs=1e-6)


def test_a_prediction_needs_no_column_of_an_absent_modality(tmp_path: Path) -> None:
    run = train(tmp_path / "run")
    assert run.predict({"a": [2.0, 2.0, 2.0, 2.0]})[0]["modalities"] == "a"
    with pytest.raises(RecipeError, match="has no column"):
        run.predict({"c": 3})


def test_accumulating_two_batches_is_one_batch_of_both(tmp_path: Path) -> None:
    plain = {name: {"type": "numbers", "encoder": "linear"} for name in "ab"}
    table = toys.rows(100)
    for row in table:
        row["w"] = 1.0 + (row["label"] == "w")
    target = {"column": "label", "weight": "w"}
    losses = {}
    for name, size, accumulate in [("big", 30, 1), ("small", 10, 3)]:
        run = train(
            tmp_path / name,
            table,
            target=target,
            modalities=plain,
            overrides=[
                "training.optimizer={name: SGD, lr: 0.0}",
                f"training.batch_size={size}",
                f"training.accumulate={accumulate}",
                "training.epochs=1",
            ],
        )
        with (run.folder / "metrics.csv").open() as file:
            losses[name] = float(next(csv.DictReader(file))["validation_loss"])
    assert losses["big"] == pytest.approx(losses["small"], abs=0.05)  # batch statistics differ, weights do not


def test_early_stopping_and_max_steps_end_the_training(tmp_path: Path) -> None:
    run = train(
        tmp_path / "early", overrides=["training.epochs=50", "training.early_stopping={patience: 2, min_delta: 1}"]
    )
    assert run.report["epochs"] == 3  # the first sets the mark, two bring no improvement of 1
    (note,) = run.report["notes"]
    assert note == "ended after epoch 3 of 50, as early_stopping says: 2 epochs without a better validation accuracy"
    run = train(tmp_path / "steps", overrides=["training.max_steps=5"])
    assert run.report["steps"] == 5


def test_a_lower_loss_at_an_equal_metric_is_an_improvement_where_any_counts(tmp_path: Path) -> None:
    def trained(folder: str, *overrides: str) -> list[tuple[float, float]]:
        run = train(tmp_path / folder, overrides=["training.epochs=12", "training.metric=accuracy", *overrides])
        with (run.folder / "metrics.csv").open() as file:
            return [(float(row["validation_accuracy"]), -float(row["validation_loss"])) for row in csv.DictReader(file)]

    def end(standings: Sequence[Any]) -> int:
        best = [max(standings[: n + 1]) for n in range(len(standings))]
        return next((n + 1 for n in range(2, len(best)) if best[n - 2] == best[n]), len(best))

    whole = trained("whole")
    by_both, by_metric = end(whole), end([value for value, _ in whole])
    assert by_both != by_metric
    assert len(trained("any", "training.early_stopping=2")) == by_both
    assert len(trained("more", "training.early_stopping={patience: 2, min_delta: 1e-9}")) == by_metric


def test_the_best_weights_are_kept_by_the_metric_and_of_equal_ones_by_the_loss(tmp_path: Path) -> None:
    run = train(tmp_path / "run", overrides=["training.epochs=8", "training.metric=accuracy"])
    with (run.folder / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    standings = [(float(row["validation_accuracy"]), -float(row["validation_loss"])) for row in rows]
    assert len({value for value, _ in standings}) < len(standings)
    assert run.report["best"]["value"] == max(standings)[0]
    assert run.report["best"]["epoch"] == 1 + standings.index(max(standings))
    assert run.report["validation"]["metrics"]["accuracy"] == pytest.approx(max(standings)[0])


def test_every_optimizer_and_schedule_trains(tmp_path: Path) -> None:
    table = toys.rows(40)
    options = {
        "MultiStepLR": {"milestones": [1]},
        "StepLR": {"step_size": 1},
        "OneCycleLR": {"max_lr": 0.01},
        "CyclicLR": {"base_lr": 0.001, "max_lr": 0.01, "cycle_momentum": False},
        "ExponentialLR": {"gamma": 0.9},
        "CosineAnnealingWarmRestarts": {"T_0": 2},
    }
    for index, name in enumerate(registry.names("optimizer")):
        train(
            tmp_path / f"o{index}",
            table,
            overrides=[f"training.optimizer={{name: {name}, lr: 0.001}}", "training.epochs=1"],
        )
    for index, name in enumerate(registry.names("schedule")):
        schedule = json.dumps({"name": name, **options.get(name, {})})
        train(tmp_path / f"s{index}", table, overrides=[f"training.schedule={schedule}", "training.epochs=2"])


def test_a_loss_that_is_not_finite_stops_with_advice(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="lower the learning rate"):
        train(tmp_path / "run", overrides=["training.optimizer={name: SGD, lr: 1e38}", "training.schedule=null"])


def edited(change: Mapping[str, Any], rows: range = range(1, 2)) -> list[dict[str, Any]]:
    table = toys.rows()
    for row in rows:
        table[row].update(change)
    return table


@pytest.mark.parametrize(
    ("table", "changes", "error", "message"),
    [
        (
            edited({"label": None}),
            {},
            TargetError,
            "1 row has no value in the target column 'label' (first: <table>, row 2: empty)",
        ),
        (edited({"label": "q"}, range(190, 191)), {}, TargetError, "test rows"),
        (edited({"label": "w"}, range(200)), {}, TargetError, "label"),
        (edited({"a": [1.0]}), {}, DataError, "<table>, row 2, column a"),
        (edited({"split": "trian"}), {}, TableError, "'trian' in 1 row"),
        (edited({"split": "test"}, range(200)), {}, TableError, "no row is for training"),
        (toys.rows(), {"target": {"column": "labl"}}, RecipeError, "did you mean 'label'"),
        (toys.rows(), {"modalities": {"a": {"type": "numbers", "column": "q"}}}, RecipeError, "has no column 'q'"),
        (edited({"w": -1.0}, range(200)), {"target": {"column": "label", "weight": "w"}}, TargetError, "at least 0"),
        ([], {}, TableError, "no rows"),
    ],
)
def test_bad_data_stop_before_training_with_the_place(
    tmp_path: Path, table: Any, changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as caught:
        mmreg.train(toys.recipe(table, **changes), tmp_path / "run", device="cpu")
    assert message in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_bad_cells_may_be_absent_or_skipped(tmp_path: Path) -> None:
    table = edited({"a": [1.0]}, range(3, 6))
    listening = Listening()
    run = train(tmp_path / "absent", table, on_bad="absent", callback=listening)
    assert any("3 cells cannot be loaded, taken for absent" in text for text in listening.messages)
    assert run.predict(table[3:4])[0]["modalities"] == "b"
    listening = Listening()
    train(tmp_path / "skip", table, on_bad="skip", callback=listening)
    assert any("left out" in text for text in listening.messages)


def test_texts_that_are_cut_are_told_with_their_number_from_the_cache_too(tmp_path: Path) -> None:
    table = [{**row, "t": " ".join(["word"] * (1 + number % 10))} for number, row in enumerate(toys.rows())]
    encoder = {"name": "text_rnn", "features": 4, "hidden_size": 4, "embedding_size": 4}
    modalities = {"a": {"type": "numbers"}, "t": {"type": "text", "max_tokens": 8, "encoder": encoder}}
    told = "t: 3 of 10 texts reach max_tokens: 8, where longer ones are cut"
    for name in ("first", "again"):
        listening = Listening()
        run = train(tmp_path / name, table, modalities=modalities, callback=listening)
        assert [text for text in listening.messages if "max_tokens" in text] == [told]
        assert told in run.report["notes"]


def test_the_same_value_in_two_splits_is_told(tmp_path: Path) -> None:
    table = toys.rows()
    for row in (150, 190):
        table[row]["t"] = table[0]["t"] = "the same words"
    for number, row in enumerate(table):
        row.setdefault("t", f"words {number}")
    listening = Listening()
    inputs = {"a": {"type": "numbers"}, "t": {"type": "text"}}
    train(tmp_path / "run", table, modalities=inputs, callback=listening, overrides=["training.epochs=1"])
    (text,) = listening.messages
    assert "column t: 1 of 40 validation rows hold 1 value of train, 1 of 40 test rows hold 1 value of train" in text


def test_evaluating_notices_a_changed_table(tmp_path: Path) -> None:
    import pyarrow as pa

    from mmreg.data.table import read_table

    path = tmp_path / "t.parquet"
    pq.write_table(pa.Table.from_pylist(toys.rows()), path)
    run = mmreg.train(toys.recipe(str(path)), tmp_path / "run", device="cpu")
    assert mmreg.load(tmp_path / "run", device="cpu").evaluate() == run.evaluate()
    pq.write_table(pa.Table.from_pylist(toys.rows(seed=3)), path)
    with pytest.raises(RunError, match="has changed since the training"):
        run.evaluate()
    assert run.evaluate(read_table(path))["rows"] == 200
    assert run.evaluate(path, split="test")["rows"] == 40


def test_tables_by_split_are_read_together(tmp_path: Path) -> None:
    table = toys.rows()
    parts = {name: [row for row in table if row["split"] == name] for name in ("train", "validation", "test")}
    run = train(tmp_path / "run", parts, split=None)
    assert run.report["test"]["rows"] == 40


@pytest.mark.parametrize("what", ["missing", "file", "empty", "damaged", "nested", "other"])
def test_what_is_no_run_is_refused(tmp_path: Path, what: str) -> None:
    folder = tmp_path / "run"
    if what == "file":
        folder.write_text("x")
    elif what != "missing":
        folder.mkdir()
        if what == "damaged":
            (folder / "components.json").write_text("{")
        if what == "nested":
            (folder / "components.json").write_text("[" * 100_000)
        if what == "other":
            (folder / "components.json").write_text('{"format": 99}')
    with pytest.raises(RunError):
        mmreg.load(folder)


def test_a_run_of_an_unregistered_component_says_what_to_register(tmp_path: Path) -> None:
    train(tmp_path / "run")
    mmreg.registry.unregister("encoder", "linear")
    with pytest.raises(RunError, match=r"encoder/a from local.*register the local ones"):
        mmreg.load(tmp_path / "run")


def test_a_batch_whose_rows_weigh_nothing_changes_nothing_but_its_turn(tmp_path: Path) -> None:
    table = toys.rows(60)
    for number, row in enumerate(table):
        row["w"] = float(number % 2)
    run = train(
        tmp_path / "run",
        table,
        target={"column": "label", "weight": "w"},
        overrides=["training.batch_size=1", "training.epochs=1"],
    )
    with (run.folder / "metrics.csv").open() as file:
        row = next(csv.DictReader(file))
    assert 0 < float(row["train_loss"]) < 10
    assert 0 < float(row["validation_loss"]) < 10


def test_evaluating_needs_nothing_that_only_fitting_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = train(tmp_path / "run")

    def refuse(*_: Any) -> None:
        raise AssertionError("fitted again")

    monkeypatch.setattr(toys.Numbers, "fit_values", refuse)
    assert run.evaluate()["rows"] == 40


@pytest.mark.parametrize("key", ["early_stopping=2", "metric=accuracy"])
def test_what_is_judged_on_validation_rows_needs_some(tmp_path: Path, key: str) -> None:
    table = [{**row, "split": "train"} for row in toys.rows()]
    with pytest.raises(TableError, match="is judged on validation rows; there are 0"):
        train(tmp_path / "run", table, overrides=[f"training.{key}"])


def test_a_run_in_half_precision_loads_on_a_cpu(tmp_path: Path) -> None:
    run = train(tmp_path / "run")
    path = run.folder / "recipe.yaml"
    path.write_text(path.read_text().replace("precision: auto", "precision: float16"))
    assert mmreg.load(run.folder, "cpu").dtype == torch.float32
    assert mmreg.load(run.folder, "cpu", "bfloat16").dtype == torch.bfloat16


def test_a_schedule_that_fails_later_is_refused_before_training(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"schedule OneCycleLR with .* fails over 3 epochs: ValueError: Tried"):
        train(tmp_path / "run", overrides=["training.schedule={name: OneCycleLR, max_lr: 0.1, total_steps: 2}"])


def test_wrong_components_and_missing_columns_are_told_together(tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        train(tmp_path / "run", target={"column": "labl"}, fusion="konkat", overrides=["training.optimizer=Adm"])
    for text in ("no column 'labl'; did you mean 'label'", "no fusion 'konkat'", "no optimizer 'Adm'"):
        assert text in str(caught.value)
