"""The grid: what it trains, where, what it keeps when it is called again, and what it refuses."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import toys
from torch import Tensor

import mmreg
from mmreg import FeatureFusion, Features, registry
from mmreg.contract.callback import TRAINING
from mmreg.errors import DeviceError, OptionError, RecipeError, RunError, TrainingError
from mmreg.recipe.recipe import Recipe
from mmreg.runs import writing
from mmreg.studies.compare import Comparison, run_grid
from mmreg.studies.compare.grid import check_grid
from mmreg.studies.compare.jobs import device_slots, reason_of_end
from mmreg.studies.compare.variants import choice_name, folder_names, grid_variants

TABLE = toys.rows(150)


@pytest.fixture(autouse=True)
def _toys() -> None:
    toys.register()


class Listening(mmreg.Callback):
    def __init__(self, stop_at: str = "") -> None:
        self.stop_at = stop_at
        self.trained: list[str] = []
        self.messages: list[str] = []

    def on_message(self, text: str) -> None:
        self.messages.append(text)

    def on_progress(self, what: str, done: int, total: int, note: str = "") -> None:
        if self.stop_at and note == self.stop_at:
            raise KeyboardInterrupt
        if what == TRAINING and done > len(self.trained):
            self.trained.append(note.partition(":")[0])


def grid(
    folder: Path, fusions: Sequence[Any] = ("concat", "product"), seeds: Sequence[int] = (0, 1), **options: Any
) -> Comparison:
    changes = dict(options.pop("changes", {}))
    recipe = toys.recipe(changes.pop("table", TABLE), **changes)
    return run_grid(recipe, folder, fusions=fusions, seeds=seeds, device="cpu", **{"resamples": 200, **options})


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Comparison]:
    toys.register()
    folder = tmp_path_factory.mktemp("compared") / "grid"
    comparison: Comparison = grid(folder)
    return folder, comparison


def test_every_variant_is_an_ordinary_run_for_each_seed(finished: tuple[Path, Comparison]) -> None:
    folder, comparison = finished
    found = sorted(str(path.relative_to(folder / "runs")) for path in folder.glob("runs/*/seed-?"))
    assert found == [f"{name}/seed-{n}" for name in ("a_alone", "b_alone", "concat", "product") for n in (0, 1)]
    run = mmreg.load(folder / "runs" / "product" / "seed-1")
    assert (run.plan.recipe.form.training.seed, run.plan.fusion.fusion.name) == (1, "product")
    assert (
        run.evaluate(TABLE, split="test")["metrics"]["accuracy"]
        == comparison.variant("product").runs[1].figures["accuracy"]
    )
    assert list(mmreg.load(folder / "runs" / "b_alone" / "seed-0").modalities) == ["b"]


def test_a_training_in_the_grid_is_the_same_as_outside_of_it(finished: tuple[Path, Comparison], tmp_path: Path) -> None:
    folder, _ = finished
    mmreg.train(toys.recipe(TABLE), tmp_path / "run", overrides=["training.seed=1"], device="cpu")
    for name in ("metrics.csv", "model.safetensors"):
        assert (tmp_path / "run" / name).read_bytes() == (folder / "runs" / "concat" / "seed-1" / name).read_bytes()


def test_figures_stand_beside_those_of_each_modality_alone(finished: tuple[Path, Comparison]) -> None:
    _, comparison = finished
    assert {variant.name for variant in comparison.variants} == {"concat", "product", "a alone", "b alone"}
    single = comparison.best_single
    assert single is not None
    assert single.name in ("a alone", "b alone")
    assert single.mean("accuracy") == max(comparison.variant(f"{n} alone").mean("accuracy") for n in "ab")
    fused = comparison.variant("concat")
    assert comparison.gain(fused) == pytest.approx(fused.mean("accuracy") - single.mean("accuracy"))
    assert fused.parameters == 2 * (4 * 8 + 8 + 16) + 16 * 4 + 4
    assert fused.seconds is not None
    assert fused.seconds > 0
    assert len(comparison.pairs) == 6
    assert comparison.rows == 30


def test_the_reports_agree_with_the_comparison(finished: tuple[Path, Comparison], tmp_path: Path) -> None:
    _, comparison = finished
    written = comparison.write(tmp_path)
    assert {path.name for path in written} >= {"comparison.csv", "comparison.json", "comparison.md"}
    data = json.loads((tmp_path / "comparison.json").read_text())
    assert data["best"] == comparison.best.name
    assert data["best_single"] == comparison.best_single.name
    assert [len(variant["runs"]) for variant in data["variants"]] == [2] * 4
    assert data["pairs"][0]["mcnemar"].keys() == {"only_first_right", "only_second_right", "p"}
    with (tmp_path / "comparison.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["variant"] for row in rows] == [variant.name for variant in comparison.variants]
    assert float(rows[0]["accuracy_mean"]) == comparison.best.mean("accuracy")
    assert rows[0]["compared_to_best"] == "best"
    page = (tmp_path / "comparison.md").read_text()
    assert all(text in page for text in comparison.conclusions)
    lines = [line for line in page.splitlines() if line.startswith("|")]
    assert len(lines) == 2 + 4 + 2 + 6
    table = comparison.table()
    assert [row["variant"] for row in table] == [row["variant"] for row in rows]
    assert {row["vs single"] for row in table} >= {"baseline", ""}


def test_a_picture_is_drawn_where_matplotlib_is_there(
    finished: tuple[Path, Comparison], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")
    finished[1].write(tmp_path / "with")
    assert (tmp_path / "with" / "comparison.png").read_bytes().startswith(b"\x89PNG")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    written = finished[1].write(tmp_path / "without")
    assert all(path.suffix != ".png" for path in written)


def test_called_again_it_trains_only_what_is_new(finished: tuple[Path, Comparison]) -> None:
    folder, comparison = finished
    listening = Listening()
    again = grid(folder, callback=listening)
    assert listening.trained == []
    assert again.to_json() == comparison.to_json()
    more = grid(folder, fusions=["product", "sum"], seeds=[1], singles=False, callback=listening)
    assert listening.trained == ["sum, seed 1"]
    assert {variant.name for variant in more.variants} == {"product", "sum"}
    told = next(note for note in more.notes if "were not asked for" in note)
    assert "product (seed 0)" in told
    assert "concat (seed 0, 1)" in told


def test_runs_of_a_grid_are_compared_as_a_plain_list(finished: tuple[Path, Comparison]) -> None:
    comparison = finished[1]
    listed: list[Any] = [run.folder for variant in comparison.variants for run in variant.runs]
    listed[0] = mmreg.load(listed[0], "cpu")
    found = mmreg.compare(listed, resamples=200)
    assert found.to_json()["variants"] == comparison.to_json()["variants"]
    assert found.to_json()["pairs"] == comparison.to_json()["pairs"]
    named = mmreg.compare({"one": listed[:2], "other": [str(path) for path in listed[2:4]]}, resamples=100)
    assert {variant.name for variant in named.variants} == {"one", "other"}
    single = mmreg.compare({"one": listed[0], "other": str(listed[2])}, resamples=100)
    assert {variant.name: len(variant.runs) for variant in single.variants} == {"one": 1, "other": 1}
    with pytest.raises(RunError, match="at least two variants, found 1 in 2 runs"):
        mmreg.compare(listed[:2])


def test_a_changed_recipe_or_table_is_refused_with_what_changed(finished: tuple[Path, Comparison]) -> None:
    folder, _ = finished
    training = {**toys.recipe(None)["training"], "batch_size": 8}
    with pytest.raises(RunError, match=r"training\.batch_size was 16 and is 8 \(8 trainings, such as concat, seed 0\)"):
        grid(folder, changes={"training": training})
    with pytest.raises(RunError, match=r"the rows of .* have changed \(8 trainings"):
        grid(folder, changes={"table": toys.rows(150, seed=9)})


def test_what_stands_in_the_way_of_a_training_is_named(finished: tuple[Path, Comparison], tmp_path: Path) -> None:
    shutil.copytree(finished[0], tmp_path / "grid")
    cell = tmp_path / "grid" / "runs" / "product" / "seed-1"
    (cell / "recipe.yaml").write_text("{")
    with pytest.raises(RecipeError, match=re.escape(f"{cell / 'recipe.yaml'}, line 1: this is no valid YAML")):
        grid(tmp_path / "grid")
    (cell / "recipe.yaml").write_text("table: t.csv")
    with pytest.raises(RecipeError, match=re.escape(f"{cell / 'recipe.yaml'}: 1 problem")):
        grid(tmp_path / "grid")
    shutil.rmtree(cell)
    cell.symlink_to(tmp_path / "gone")
    with pytest.raises(RunError, match=re.escape(f"{str(cell)!r}: {cell} is a link that leads nowhere")):
        grid(tmp_path / "grid")
    cell.unlink()
    cell.touch()
    with pytest.raises(RunError, match=f"product, seed 1 cannot be written .* {re.escape(str(cell))} is a file"):
        grid(tmp_path / "grid")


def test_a_damaged_training_is_named_with_what_to_do(finished: tuple[Path, Comparison], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(finished[0], tmp_path / "grid"))
    damaged = folder / "runs" / "concat" / "seed-0"
    (damaged / "model.safetensors").write_bytes(b"noise")
    again = grid(folder)
    (failed,) = again.failed
    assert "damaged: " in failed.reason
    assert failed.reason.endswith(f"(remove {damaged}, and the same command trains it anew)")
    shutil.rmtree(damaged)
    listening = Listening()
    assert not grid(folder, callback=listening).failed
    assert listening.trained == ["concat, seed 0"]


def truncate(path: Path) -> None:
    os.truncate(path, 50)


@pytest.mark.parametrize(("damage", "told"), [(Path.unlink, "gone"), (truncate, "damaged: ")])
def test_a_training_whose_predictions_are_damaged_is_left_out(
    finished: tuple[Path, Comparison], tmp_path: Path, damage: Callable[[Path], None], told: str
) -> None:
    folder = Path(shutil.copytree(finished[0], tmp_path / "grid"))
    damaged = folder / "runs" / "concat" / "seed-0"
    damage(damaged / "predictions" / "test.parquet")
    again = grid(folder)
    (failed,) = again.failed
    assert f"test.parquet is {told}" in failed.reason
    assert failed.reason.endswith(f"(remove {damaged}, and the same command trains it anew)")
    assert again.split == "test"
    with pytest.raises(RunError, match=rf"test\.parquet is {told}"):
        mmreg.compare([damaged, folder / "runs" / "product" / "seed-0"])


def test_a_stopped_grid_goes_on_where_it_was(tmp_path: Path) -> None:
    changes = {"fusion": "product"}
    whole = grid(tmp_path / "whole", ["product"], [0], changes=changes)
    with pytest.raises(KeyboardInterrupt):
        grid(tmp_path / "stopped", ["product"], [0], changes=changes, callback=Listening("a alone, seed 0, epoch 2/3"))
    listening = Listening()
    resumed = grid(tmp_path / "stopped", ["product"], [0], changes=changes, callback=listening)
    assert listening.trained == ["a alone, seed 0", "b alone, seed 0"]
    assert "trainings that are done already: 1 of 3" in listening.messages
    for name in ("a_alone", "b_alone", "product"):
        weights = [tmp_path / which / "runs" / name / "seed-0" / "model.safetensors" for which in ("whole", "stopped")]
        assert weights[0].read_bytes() == weights[1].read_bytes()
    assert [pair.p for pair in resumed.pairs] == [pair.p for pair in whole.pairs]


def test_a_training_killed_while_it_wrote_its_first_file_starts_anew(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "concat" / "seed-0"
    folder.mkdir(parents=True)
    (folder / "components.json").write_text("{}")
    assert len(grid(tmp_path, ["concat"], [0]).variants) == 3


class Broken(FeatureFusion):
    """Fails when it is used."""

    def __init__(self, inputs: Mapping[str, int]) -> None:
        super().__init__()
        self.out_features = sum(inputs.values())

    def forward(self, features: Mapping[str, Features], present: Tensor) -> Features:
        raise RuntimeError("it broke")


def test_a_variant_that_fails_does_not_stop_the_others(tmp_path: Path) -> None:
    registry.register("fusion", "broken", Broken)
    listening = Listening()
    comparison = grid(tmp_path, ["broken", "concat"], [0], callback=listening)
    assert len(listening.trained) == 4
    (failure,) = comparison.failed
    assert (failure.variant, failure.seed) == ("broken", 0)
    assert failure.reason.startswith("RuntimeError: it broke")
    assert "it broke" in (tmp_path / "runs" / "broken" / "seed-0.log").read_text()
    assert {variant.name for variant in comparison.variants} == {"concat", "a alone", "b alone"}
    assert "- broken, seed 0: RuntimeError: it broke" in comparison.to_markdown()
    assert comparison.to_json()["failed"][0]["variant"] == "broken"


def test_it_says_why_where_too_few_are_left_to_compare(tmp_path: Path) -> None:
    registry.register("fusion", "broken", Broken)
    with pytest.raises(TrainingError, match=r"1 of 2 variants .*\n  broken, seed 0: RuntimeError: it broke"):
        grid(tmp_path, ["broken", "concat"], [0], singles=False)


def test_all_problems_of_all_variants_are_told_before_anything_is_trained(tmp_path: Path) -> None:
    encoders = {"a": ["linear", {"name": "linear", "featurs": 4}], "b": ["liner"]}
    with pytest.raises(RecipeError) as caught:
        grid(tmp_path / "grid", ["concat", "konkat", {"name": "low_rank", "rank": "x"}], encoders=encoders)
    text = str(caught.value)
    assert "4 problems" in text
    assert "konkat [a=linear], konkat [a=linear(featurs=4)]: fusion.name: there is no fusion 'konkat'" in text
    assert "modalities.a.encoder.featurs: " in text
    assert "'liner'" in text
    assert "rank: " in text
    assert not (tmp_path / "grid").exists()


def test_what_is_wrong_with_the_grid_itself_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="different numbers"):
        grid(tmp_path / "x", seeds=[0, 0])
    with pytest.raises(OptionError, match="no metric 'acuracy'; did you mean 'accuracy'"):
        grid(tmp_path / "x", metric="acuracy")
    assert not (tmp_path / "x").exists()
    with pytest.raises(OptionError, match="jobs must be at least 1"):
        grid(tmp_path / "x", jobs=0)
    with pytest.raises(RecipeError, match=r"'c' is no modality.*there are a, b"):
        grid(tmp_path / "x", encoders={"c": ["linear"]})
    with pytest.raises(OptionError, match="nothing to compare concat with"):
        grid(tmp_path / "x", ["concat"], singles=False)
    with pytest.raises(OptionError, match="level 'model' chooses among all"):
        grid(tmp_path / "x", ["concat"], level="model")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("mine")
    with pytest.raises(RunError, match="something else than a comparison"):
        grid(tmp_path / "full")
    with pytest.raises(RunError, match="is a file"):
        grid(tmp_path / "full" / "letter.txt")


def test_a_comparison_s_folder_has_one_writer(tmp_path: Path) -> None:
    with writing(tmp_path / "grid"), pytest.raises(RunError, match="being written to by this process"):
        grid(tmp_path / "grid")
    assert not (tmp_path / "grid").exists()


def names(recipe: Mapping[str, Any], *arguments: Any) -> list[str]:
    return [variant.name for variant in grid_variants(Recipe(recipe), *arguments)]


def test_the_grid_is_every_fusion_with_every_encoder() -> None:
    low_rank = {"name": "low_rank", "rank": 8}
    nested = {"name": "product", "of": [{"name": "low_rank", "of": ["a"]}, "b"]}
    encoders = {"a": ["linear", {"name": "linear", "features": 4}], "b": ["linear"]}
    assert names(toys.recipe("t.csv"), ["concat", low_rank, nested], None, encoders, True) == [
        "concat [a=linear]",
        "concat [a=linear(features=4)]",
        "low_rank(rank=8) [a=linear]",
        "low_rank(rank=8) [a=linear(features=4)]",
        "product(low_rank(a), b) [a=linear]",
        "product(low_rank(a), b) [a=linear(features=4)]",
        "a alone [a=linear]",
        "a alone [a=linear(features=4)]",
        "b alone",
    ]
    assert names(toys.recipe("t.csv"), None, None, {}, True) == ["concat", "a alone", "b alone"]


def test_balances_are_compared_on_the_same_rows(tmp_path: Path) -> None:
    balances = ["none", {"name": "ogm_ge", "alpha": 0.5}]
    changes = {"training": {**toys.recipe(TABLE)["training"], "balance": "pmr"}}
    comparison = grid(tmp_path / "grid", ["concat"], (0,), balances=balances, changes=changes)
    found = {variant.name for variant in comparison.variants}
    assert found == {"concat [balance=none]", "concat [balance=ogm_ge(alpha=0.5)]", "a alone", "b alone"}
    folders = sorted(path.parent.name for path in (tmp_path / "grid/runs").glob("*/seed-0"))
    chosen = [mmreg.load(tmp_path / "grid/runs" / name / "seed-0").recipe["training"]["balance"] for name in folders]
    assert [each and each["name"] for each in chosen] == [None, None, None, "mmreg:ogm_ge"]
    with pytest.raises(RecipeError, match=r"product .*balances several modalities that reach one head"):
        grid(tmp_path / "other", ["product"], (0,), balances=["none", "ogm_ge"])


def test_an_operator_that_takes_no_balance_is_left_out_with_it_alone(tmp_path: Path) -> None:
    base = Recipe(toys.recipe(TABLE))

    def checked(*balances: str, fusions: Sequence[str] = ("concat", "mean")) -> tuple[list[str], list[str]]:
        variants = grid_variants(base, fusions, None, {}, False, balances)
        jobs, left_out = check_grid(base, variants, [0], tmp_path, mmreg.Callback())
        return [job.variant for job in jobs], left_out

    fits, (mean,) = checked("none", "ogm_ge")
    assert fits == ["concat [balance=none]", "concat [balance=ogm_ge]", "mean [balance=none]"]
    assert mean.startswith("mean [balance=ogm_ge] is left out: training.balance: ogm_ge balances several modalities")
    fits, left_out = checked("pmr", "ogm_ge")
    assert fits == ["concat [balance=pmr]", "concat [balance=ogm_ge]"]
    assert [each.partition(" is left out")[0] for each in left_out] == ["mean [balance=pmr]", "mean [balance=ogm_ge]"]
    with pytest.raises(RecipeError, match=r"1 problem\n  mean \[balance=ogm_ge\]: training\.balance: ogm_ge balances"):
        checked("none", "ogm_ge", fusions=["mean"])
    with pytest.raises(RecipeError, match=r"concat \[balance=ogm\], mean \[balance=ogm\]: .*there is no balance 'ogm'"):
        checked("none", "pmr", "ogm")
    with pytest.raises(RecipeError, match="there is no fusion 'men'"):
        checked("none", "ogm_ge", fusions=["concat", "men"])


def own_and_alone(folder: Path, modality: str, seeds: Sequence[int], split: str) -> tuple[float, float]:
    """The accuracies of a modality by itself, and of the model trained on it alone, on the rows that have it."""
    found = []
    for seed in seeds:
        fused, alone = (
            pq.read_table(place / f"seed-{seed}" / "predictions" / f"{split}.parquet").to_pylist()
            for place in (folder, folder.parent / f"{modality}_alone")
        )
        classes, there = sorted("wxyz"), [row for row, each in enumerate(fused) if modality in each["modalities"]]
        own, single = (
            [classes[int(np.argmax(rows[row][column]))] == rows[row]["target"] for row in there]
            for rows, column in ((fused, f"scores/{modality}"), (alone, "scores"))
        )
        found.append((np.mean(own), np.mean(single)))
    one, other = np.mean(found, axis=0)
    return float(one), float(other)


def test_what_a_modality_says_by_itself_stands_beside_what_it_says_trained_alone(tmp_path: Path) -> None:
    changes = {"table": toys.rows(150, absent=0.2)}
    balances = ["none", "own_losses", "mla"]
    comparison = grid(tmp_path / "grid", ["sum"], balances=balances, changes=changes)
    names = {
        "own_losses": "sum [balance=own_losses]",
        "mla": "sum [balance=mla]",
    }
    data = {each["name"]: each for each in comparison.to_json()["variants"]}
    table = {row["variant"]: row for row in comparison.table()}
    written = {row["variant"]: row for row in csv.DictReader(comparison.to_csv().splitlines())}
    for balance, name in names.items():
        for modality in "ab":
            own, alone = own_and_alone(tmp_path / f"grid/runs/sum_balance={balance}", modality, (0, 1), "test")
            figure = data[name]["by_itself"][modality]
            assert figure == {
                "own": pytest.approx(own),
                "alone": pytest.approx(alone),
                "gap": pytest.approx(own - alone),
            }
            assert table[name][f"{modality} by itself"] == f"{own:.3f} ({own - alone:+.3f})"
            assert float(written[name][f"{modality}_gap_to_alone"]) == pytest.approx(own - alone)
    for name in ("sum [balance=none]", "a alone"):
        assert data[name]["by_itself"] == {}
        assert table[name]["a by itself"] == ""
    assert "how far that is from the model trained on it alone" in comparison.to_markdown()
    listening = Listening()
    again = grid(tmp_path / "grid", ["sum"], balances=balances, changes=changes, split="validation", callback=listening)
    assert not listening.trained
    assert (again.split, again.rows) == ("validation", 30)
    own, alone = own_and_alone(tmp_path / "grid/runs/sum_balance=mla", "b", (0, 1), "validation")
    assert again.own_figures(again.variant(names["mla"]))["b"].gap == pytest.approx(own - alone)
    assert any("as they chose the weights" in note for note in again.notes)


def test_a_modality_has_no_gap_where_none_was_trained_alone_with_its_encoder(tmp_path: Path) -> None:
    encoders = {"a": ["linear", {"name": "linear", "features": 4}]}
    comparison = grid(tmp_path / "grid", ["concat"], (0,), encoders=encoders, balances=["own_losses"])
    for features in ("linear", "linear(features=4)"):
        figures = comparison.own_figures(comparison.variant(f"concat [a={features}]"))
        single = comparison.variant(f"a alone [a={features}]")
        assert figures["a"].alone == pytest.approx(single.mean("accuracy"))
        assert figures["b"].alone == pytest.approx(comparison.variant("b alone").mean("accuracy"))
    without = grid(tmp_path / "grid", ["concat"], (0,), encoders=encoders, balances=["own_losses"], singles=False)
    (variant, *_) = without.variants
    assert {name: figure.gap for name, figure in without.own_figures(variant).items()} == {"a": None, "b": None}
    assert "(" not in without.table()[0]["a by itself"]


def test_a_modality_that_no_compared_row_has_says_nothing_by_itself(tmp_path: Path) -> None:
    table = [{**row, "b": None if row["split"] == "test" else row["b"]} for row in toys.rows(60)]
    comparison = grid(
        tmp_path / "grid", ["sum", "concat"], (0,), balances=["own_losses"], singles=False, changes={"table": table}
    )
    assert [list(comparison.own_figures(each)) for each in comparison.variants] == [["a"], ["a"]]


def test_all_means_every_operator() -> None:
    levels = {entry.spec.name: entry.spec.level for entry in registry.specs("fusion")}
    assert set(names(toys.recipe("t.csv"), ["all"], None, {}, False)) == set(levels)
    model_level = {name for name, level in levels.items() if level == "model"}
    assert set(names(toys.recipe("t.csv"), None, "model", {}, False)) == model_level
    assert names(toys.recipe("t.csv"), ["mean", "all"], "model", {}, False).count("mean") == 1


def fitting(folder: Path, level: str, *chosen: str, **changes: Any) -> tuple[list[str], list[str]]:
    """Of all operators of a level those chosen, as far as they fit a recipe; and the notes on the others."""
    base = Recipe({**toys.recipe(TABLE), **changes})
    variants = [variant for variant in grid_variants(base, ["all"], level, {}, True) if variant.name in chosen]
    jobs, left_out = check_grid(base, variants, [0], folder, mmreg.Callback())
    return [job.variant for job in jobs], left_out


def test_an_operator_of_all_that_does_not_fit_is_left_out_with_the_reason(tmp_path: Path) -> None:
    class Never(Broken):
        def __init__(self, inputs: Mapping[str, int]) -> None:
            raise OptionError("it is too large")

    registry.register("fusion", "never", Never)
    never = "never is left out: fusion: it is too large"
    assert fitting(tmp_path, "feature", "concat", "sum", "never") == (["concat", "sum"], [never])
    table = [{**row, "label": float(index)} for index, row in enumerate(TABLE)]
    regression = {"table": table, "target": {"column": "label", "task": "regression"}}
    fits, (vote,) = fitting(tmp_path, "model", "mean", "weighted", "vote", **regression)
    assert fits == ["mean", "weighted"]
    assert vote.startswith("vote is left out: fusion: vote cannot combine predictions of the task 'regression'")
    one = {"modalities": {"a": {"type": "numbers"}}, "fusion": None}
    fits, (multiplicative,) = fitting(tmp_path, "feature", "concat", "sum", "multiplicative", **one)
    assert fits == ["concat", "sum"]
    assert multiplicative.startswith("multiplicative is left out: fusion: multiplicative fuses at least 2 inputs")


def test_what_no_operator_of_all_fits_is_a_problem_of_the_recipe(tmp_path: Path) -> None:
    with pytest.raises(
        RecipeError, match=r"recipe: 1 problem\n  every variant: modalities\.a\.encoder\.name: there is no"
    ):
        grid(tmp_path / "grid", ["all"], singles=False, encoders={"a": ["liner"]})
    assert not (tmp_path / "grid").exists()


def test_singles_keep_to_the_keys_that_fit_one_modality(tmp_path: Path) -> None:
    training = {**toys.recipe(None)["training"], "epochs": 1, "modality_dropout": {"a": 0.2}}
    comparison = grid(tmp_path, ["concat"], [0], changes={"training": training})
    assert len(comparison.variants) == 3


def test_random_splits_are_compared_on_the_rows_of_each_seed(tmp_path: Path) -> None:
    comparison = grid(tmp_path, ["concat"], changes={"split": {"validation": 0.2, "test": 0.2}}, singles=True)
    rows = [set(run.rows.tolist()) for run in comparison.variant("concat").runs]
    assert rows[0] != rows[1]
    assert comparison.rows == len(rows[0] | rows[1])
    assert any("seeds have different test rows" in note for note in comparison.notes)


def test_components_of_this_process_are_trained_in_it(tmp_path: Path) -> None:
    listening = Listening()
    comparison = grid(tmp_path, ["concat"], [0], jobs=3, callback=listening)
    assert [text for text in listening.messages if "one training at a time" in text] == [
        "one training at a time, as linear, numbers are registered in this process and the table is in this process's "
        "memory"
    ]
    assert len(comparison.variants) == 3


def test_names_of_folders_are_plain_and_differ() -> None:
    assert folder_names(["low_rank(rank=8) [a=linear]", "a alone", "bild ü alone"]) == {
        "low_rank(rank=8) [a=linear]": "low_rank_rank=8_a=linear",
        "a alone": "a_alone",
        "bild ü alone": "bild_ü_alone",
    }
    clashing = folder_names(["a/b", "a b", "c"])
    assert len(set(clashing.values())) == 3
    assert clashing["a/b"] == folder_names(["a b", "a/b"])["a/b"]
    assert choice_name({"name": "concat", "hidden": [8, 4]}) == "concat(hidden=[8, 4])"


def test_devices_are_dealt_out_to_the_trainings_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    assert device_slots("cpu", None) == ["cpu"]
    assert device_slots("cpu", 3) == ["cpu"] * 3
    monkeypatch.setattr("mmreg.model.devices.available_devices", lambda: ["cuda:0", "cuda:1", "cpu"])
    monkeypatch.setattr("mmreg.studies.compare.jobs.available_devices", lambda: ["cuda:0", "cuda:1", "cpu"])
    assert device_slots(None, None) == ["cuda:0", "cuda:1"]
    assert device_slots("cuda", 3) == ["cuda:0", "cuda:1", "cuda:0"]
    assert device_slots("cuda:1", None) == ["cuda:1"]
    with pytest.raises(DeviceError):
        device_slots("cuda:7", None)


def test_the_reason_of_a_failed_process_is_what_it_wrote_last(tmp_path: Path) -> None:
    log = tmp_path / "seed-0.log"
    log.write_text("a warning\nmmreg error: the recipe is wrong\n  in two lines\n")
    assert reason_of_end(2, log) == "the recipe is wrong\n  in two lines"
    log.write_text("Traceback ...\nRuntimeError: it broke\n")
    assert reason_of_end(1, log) == f"RuntimeError: it broke (see {log})"
    log.write_text("")
    assert "signal 9; perhaps there was too little memory: use fewer jobs" in reason_of_end(-9, log)
    assert "exit code 3" in reason_of_end(3, log)
    log.unlink()
    assert reason_of_end(2, log).endswith(f"exit code 2, and {log} cannot be read: No such file or directory")


def test_a_modality_that_shares_an_encoder_has_one_of_its_own_where_it_is_alone() -> None:
    modalities = {"a": {"type": "numbers", "encoder": {"name": "linear", "features": 5}}}
    modalities["b"] = {"type": "numbers", "encoder": {"share": "a"}}
    recipe = Recipe(toys.recipe("table.csv", modalities=modalities))
    alone = {variant.name: variant.changes for variant in grid_variants(recipe, ["concat"], None, {}, True)}["b alone"]
    assert alone["modalities"]["b"]["encoder"] == {"name": "linear", "features": 5}
    assert recipe.replace(alone).form.modalities["b"].encoder is not None


def test_a_modality_alone_learns_from_the_rows_that_have_it_beside_all() -> None:
    training = {**toys.recipe(None)["training"], "missing_rate": 0.5}
    recipe = Recipe(toys.recipe(TABLE, training=training))
    changes = {variant.name: variant.changes for variant in grid_variants(recipe, None, None, {}, True)}
    among = {"rate": 0.5, "among": {"a": ["a"], "b": ["b"]}}
    assert {name: change.get("training.missing_rate") for name, change in changes.items()} == {
        "concat": None,
        "a alone": among,
        "b alone": among,
    }
