"""Which modality decided: planted signals are found, what is absent has no share, and all tasks are told of."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from numpy.typing import NDArray
from planted import rows_of, trained
from small import make_folder

import mmreg
from mmreg import Run
from mmreg.errors import OptionError, TableError
from mmreg_explain import Explanation, explain

Third = Mapping[str, NDArray[np.float64]]


def alone(third: Third) -> Any:
    return np.where(third["m0"] > 0, "yes", "no")


def exclusive_or(third: Third) -> Any:
    return (third["m0"] > 0) ^ (third["m1"] > 0)


def added(third: Third) -> Any:
    return 200 * third["m0"] - 100 * third["m1"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("planted")


@pytest.fixture(scope="module")
def alone_run(folder: Path) -> Run:
    return trained(folder / "alone", alone, epochs=15)


@pytest.fixture(scope="module")
def added_run(folder: Path) -> Run:
    return trained(folder / "added", added, task="regression")


def shares_out(found: Explanation) -> None:
    difference = found.values - found.base
    scale = max(1.0, float(np.abs(difference).max()))
    assert np.abs(found.shapley.sum(1) - difference).max() < 1e-6 * scale
    assert np.abs(found.interactions.sum((1, 2)) - difference).max() < 1e-6 * scale


def test_the_modality_that_alone_carries_the_label_is_found(alone_run: Run) -> None:
    found = explain(alone_run, rows_of(alone, rows=60, seed=1))
    shares_out(found)
    first, second = found.overall()
    assert (first["modality"], first["rows"]) == ("m0", 60)
    assert first["share"] > 0.75
    assert first["decided"] > 50
    assert abs(second["mean"]) < 0.05
    assert found.overall_intershap < 0.15
    assert found.exact
    assert found.subsets == 4
    assert set(found.outputs) == {"yes", "no"}


def test_an_exclusive_or_is_known_by_its_interaction(folder: Path) -> None:
    run = trained(folder / "xor", exclusive_or, rows=500)
    found = explain(run, rows_of(exclusive_or, rows=100, seed=1))
    shares_out(found)
    assert found.overall_intershap > 0.85
    assert found.pairs()[0]["mean"] > 0.3


def test_a_sum_is_known_by_its_lack_of_interaction(added_run: Run) -> None:
    found = explain(added_run, rows_of(added, rows=100, seed=1))
    shares_out(found)
    assert found.what == "value"
    assert found.mean_intershap < 0.15
    first, second = found.overall()
    assert first["mean_size"] / second["mean_size"] == pytest.approx(2, rel=0.3)
    assert first["mean_size"] > 50  # in the target's own units


def test_values_are_what_the_run_predicts_with_the_cells_emptied(alone_run: Run) -> None:
    rows = rows_of(alone, rows=9, seed=2)
    found = explain(alone_run, rows, of="yes")
    ask = lambda given: np.array([row["probability_yes"] for row in alone_run.predict(given)])  # noqa: E731
    whole = ask(rows)
    first, second = (ask([{**row, other: None} for row in rows]) for other in ("m1", "m0"))
    none = ask([{**row, "m0": None, "m1": None} for row in rows])
    np.testing.assert_allclose(found.values, whole, atol=1e-6)
    np.testing.assert_allclose(found.base, none, atol=1e-6)
    np.testing.assert_allclose(found.shapley[:, 0], ((first - none) + (whole - second)) / 2, atol=1e-6)
    np.testing.assert_allclose(2 * found.interactions[:, 0, 1], whole - first - second + none, atol=1e-6)


def test_a_modality_that_a_row_lacks_has_no_share(alone_run: Run) -> None:
    rows = rows_of(alone, rows=4, seed=2)
    rows[0]["m1"] = None
    rows[1] |= {"m0": None, "m1": None}
    found = explain(alone_run, rows)
    assert found.shapley[0, 1] == 0
    assert not found.shapley[1].any()
    assert found.decided[1] == ""
    assert found.present.tolist()[:2] == [[True, False], [False, False]]
    assert found.to_data()["rows"][1]["intershap"] is None
    shares_out(found)


def test_rows_in_other_batches_come_out_the_same(alone_run: Run) -> None:
    rows = rows_of(alone, rows=11, seed=4)
    rows[3]["m0"] = None
    whole, single = (explain(alone_run, rows, batch_size=size) for size in (11, 2))
    np.testing.assert_allclose(whole.interactions, single.interactions, atol=1e-6)
    part = explain(alone_run, rows, rows=[5, 2])
    np.testing.assert_allclose(part.shapley, whole.shapley[[4, 1]], atol=1e-6)
    assert part.keys == [5, 2]


def test_many_modalities_are_sampled_and_their_errors_told(folder: Path) -> None:
    run = trained(folder / "many", alone, modalities=11, rows=120, epochs=4)
    rows = rows_of(alone, modalities=11, rows=6, seed=1)
    found = explain(run, rows, rounds=3)
    shares_out(found)
    assert not found.exact
    assert found.errors is not None
    assert found.errors.shape == (6, 11)
    assert found.subsets < 2048
    assert {"standard_error"} <= set(found.overall()[0]) & set(found.pairs()[0]) & set(found.rows()[0])
    again = explain(run, rows, rounds=3)
    assert np.array_equal(found.shapley, again.shapley)
    with pytest.raises(OptionError, match="rounds must be at least 2"):
        explain(run, rows, rounds=1)


def test_one_modality_alone_has_all_of_it(folder: Path) -> None:
    found = explain(trained(folder / "one", alone, modalities=1, epochs=2), rows_of(alone, 1, rows=5))
    shares_out(found)
    assert found.pairs() == []
    assert found.overall()[0]["share"] == 1


TASKS = {
    "ordinal": ({"column": "rank", "task": "ordinal", "order": ["low", "mid", "high"]}, "predicted class"),
    "multilabel": ({"column": "tags", "task": "multilabel", "separator": ";"}, "most probable label"),
    "quantile": ({"column": "price", "task": "quantile"}, "q0.5"),
    "survival": ({"columns": {"time": "price", "event": "event"}, "task": "survival"}, "logarithm of the hazard"),
}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import csv

    folder = make_folder(tmp_path_factory.mktemp("small"))
    with (folder / "table.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for number, row in enumerate(rows):
        row["rank"] = ["low", "mid", "high"][number % 3]
        row["event"] = str(number % 2)
    with (folder / "table.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return folder


def run_of(folder: Path, name: str, **changed: Any) -> Run:
    import yaml

    recipe = yaml.safe_load((folder / "recipe.yaml").read_text(encoding="utf-8"))
    recipe |= changed
    recipe["training"]["epochs"] = 1
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return mmreg.train(folder / f"{name}.yaml", folder / name, device="cpu")


@pytest.mark.parametrize("task", TASKS)
def test_every_task_with_a_number_is_explained(small: Path, task: str) -> None:
    target, what = TASKS[task]
    run = run_of(small, task, target=target, fusion="concat")
    found = explain(run, small / "table.csv", rows=range(1, 9))
    assert what in found.what
    shares_out(found)
    assert found.key == "id"
    assert found.keys[0] == "r0"


def test_one_of_several_targets_is_named(small: Path) -> None:
    targets = {"label": {"task": "classification"}, "price": {"task": "regression"}}
    several = {"target": None, "targets": {name: {"column": name, **own} for name, own in targets.items()}}
    run = run_of(small, "several", fusion="concat", **several)
    with pytest.raises(OptionError, match="name one by --target: label, price"):
        explain(run, small / "table.csv", rows=[1])
    with pytest.raises(OptionError, match="no target 'prize'; did you mean 'price'"):
        explain(run, small / "table.csv", rows=[1], target="prize")
    found = explain(run, small / "table.csv", rows=[1, 2], target="price")
    predicted = [
        next(value for name, value in row.items() if name.startswith("price") and "value" in name)
        for row in run.predict(small / "table.csv")[:2]
    ]
    np.testing.assert_allclose(found.values, predicted, rtol=1e-6)


def test_a_task_without_a_target_is_refused_by_name(small: Path) -> None:
    run = run_of(small, "pairs", target={"task": "contrastive"}, fusion=None)
    with pytest.raises(OptionError, match="the task Contrastive predicts vectors"):
        explain(run, small / "table.csv")


def test_model_level_fusion_is_explained_too(small: Path) -> None:
    run = run_of(small, "product")
    table = small / "table.csv"
    found = explain(run, table, of="red")
    shares_out(found)
    expected = [row["probability_red"] for row in run.predict(table)]
    np.testing.assert_allclose(found.values, expected, atol=1e-6)


def test_what_is_not_there_is_told(alone_run: Run) -> None:
    rows = rows_of(alone, rows=3)
    with pytest.raises(OptionError, match="no 'yess' to explain; did you mean 'yes'"):
        explain(alone_run, rows, of="yess")
    with pytest.raises(OptionError, match="3 rows, counted from 1, and no row 0, 4"):
        explain(alone_run, rows, rows=[0, 1, 4])
    with pytest.raises(OptionError, match="has one target, which needs no name"):
        explain(alone_run, rows, target="label")
    with pytest.raises(TableError, match="has no rows"):
        explain(alone_run, pa.table({name: pa.array([], pa.list_(pa.float64())) for name in ("m0", "m1")}))


def test_explaining_leaves_no_gradient_and_the_same_predictions(alone_run: Run) -> None:
    rows = rows_of(alone, rows=5)
    before = alone_run.predict(rows)
    explain(alone_run, rows)
    assert alone_run.predict(rows) == before
    assert all(parameter.grad is None for parameter in alone_run.model.parameters())
    assert torch.is_grad_enabled()


def test_a_modality_that_several_fused_runs_have_is_one(folder: Path) -> None:
    runs = [trained(folder / f"part{seed}", alone, epochs=2, seed=seed) for seed in (0, 1)]
    fused = mmreg.fuse([run.folder for run in runs], "mean", folder / "fused", device="cpu")
    rows = rows_of(alone, rows=5, seed=1)
    found = explain(fused, rows, of="yes")
    assert found.modalities == ["m0", "m1"]
    shares_out(found)
    without = [row["probability_yes"] for row in fused.predict([{**row, "m1": None} for row in rows])]
    none = found.base
    whole = found.values
    second = [row["probability_yes"] for row in fused.predict([{**row, "m0": None} for row in rows])]
    np.testing.assert_allclose(found.shapley[:, 0], (without - none + whole - second) / 2, atol=1e-6)
