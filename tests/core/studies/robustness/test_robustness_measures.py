"""Curves over corruption strengths, what sums them up, and the baseline that they are compared with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import toys

import mmreg
from mmreg.errors import OptionError, RunError
from mmreg.studies.robustness import effective_robustness, evaluate_robustness, relative_robustness


@pytest.fixture(autouse=True)
def _toys() -> None:
    toys.register()


def train(folder: Path, table: Any = None, epochs: int = 12, **changes: Any) -> mmreg.Run:
    recipe = toys.recipe(table or toys.rows(150), **changes)
    return mmreg.train(recipe, folder, device="cpu", overrides=[f"training.epochs={epochs}"])


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[mmreg.Run, mmreg.Run]:
    toys.register()
    folder = tmp_path_factory.mktemp("runs")
    return train(folder / "concat"), train(folder / "mean", fusion="mean")


def test_relative_robustness_is_the_trapezoids_mean() -> None:
    random = np.random.default_rng(0)
    for count in (2, 3, 11):
        strengths = np.sort(random.random(count)).tolist()
        values = random.random(count).tolist()
        area = sum((strengths[i + 1] - strengths[i]) * (values[i + 1] + values[i]) / 2 for i in range(count - 1))
        expected = area / (strengths[-1] - strengths[0])
        assert relative_robustness(strengths, values) == pytest.approx(expected)
    assert relative_robustness([0, 0.1, 5], [0.7, 0.7, 0.7]) == pytest.approx(0.7)


def test_effective_robustness_is_what_is_kept_beyond_the_shifted_baseline() -> None:
    values, baseline = [0.9, 0.8, 0.4], [0.6, 0.3, 0.1]
    expected = sum(f - (b + values[0] - baseline[0]) for f, b in zip(values, baseline, strict=True))
    assert effective_robustness(values, baseline) == pytest.approx(expected)
    assert effective_robustness(values, values) == 0
    assert effective_robustness(values, [value - 0.2 for value in values]) == pytest.approx(0)


def test_a_curve_begins_at_the_clean_figures_and_falls(runs: tuple[mmreg.Run, mmreg.Run]) -> None:
    run, late = runs
    found = evaluate_robustness(run, corruptions="a:noise=0.5,2,b:noise=3", baseline=late, metrics=["log_loss"])
    assert found["baseline"] == str(late.folder)
    assert (found["metric"], found["more_is_better"]) == ("accuracy", True)
    assert [(one["modality"], one["corruption"]) for one in found["corruptions"]] == [("a", "noise"), ("b", "noise")]
    clean, clean_late = run.evaluate(metrics=["log_loss"]), late.evaluate()
    for one, strengths in zip(found["corruptions"], ([0.0, 0.5, 2.0], [0.0, 3.0]), strict=True):
        points = one["strengths"]
        assert one["unit"] == "share of each row's root mean square"
        assert [point["strength"] for point in points] == strengths
        assert points[0]["metrics"] == clean["metrics"]
        assert points[0]["baseline"] == clean_late["metrics"]["accuracy"]
        values = [point["metrics"]["accuracy"] for point in points]
        assert values[-1] < values[0] - 0.1
        assert points[-1]["metrics"]["log_loss"] > points[0]["metrics"]["log_loss"]
        assert one["relative_robustness"] == pytest.approx(relative_robustness(strengths, values))
        others = [point["baseline"] for point in points]
        assert one["effective_robustness"] == pytest.approx(effective_robustness(values, others))


def test_a_run_against_itself_has_no_effective_robustness(runs: tuple[mmreg.Run, mmreg.Run]) -> None:
    found = evaluate_robustness(runs[0], corruptions=["a:noise=0..5"], baseline=runs[0])["corruptions"][0]
    assert len(found["strengths"]) == 6
    assert found["effective_robustness"] == 0
    assert [point["baseline"] for point in found["strengths"]] == [
        point["metrics"]["accuracy"] for point in found["strengths"]
    ]


def test_without_a_baseline_there_is_no_effective_robustness(runs: tuple[mmreg.Run, mmreg.Run]) -> None:
    found = evaluate_robustness(runs[0], corruptions="a:noise=1")
    assert found["baseline"] is None
    assert found["corruptions"][0]["effective_robustness"] is None
    assert "baseline" not in found["corruptions"][0]["strengths"][0]


def test_figures_depend_on_the_seed_and_not_on_the_batch_size(runs: tuple[mmreg.Run, mmreg.Run]) -> None:
    def figures(**options: Any) -> Any:
        return evaluate_robustness(
            runs[0], toys.rows(200, seed=3), corruptions="a:noise=2", metrics=["log_loss"], **options
        )

    first, small, other = figures(), figures(batch_size=7), figures(seed=1)
    losses = [one["corruptions"][0]["strengths"][1]["metrics"]["log_loss"] for one in (first, small, other)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert losses[0] != pytest.approx(losses[2], rel=1e-3)


def test_corruption_never_changes_what_is_absent(runs: tuple[mmreg.Run, mmreg.Run]) -> None:
    table = [{**row, "a": None} for row in toys.rows(60, seed=2, absent=0.3)]
    points = evaluate_robustness(runs[0], table, corruptions="a:noise=9,b:noise=9")["corruptions"]
    empty = sum(row["b"] is None for row in table)
    assert all(point["rows_without_any_modality"] == empty for one in points for point in one["strengths"])
    a, b = (one["strengths"] for one in points)
    assert a[1]["metrics"] == a[0]["metrics"]
    assert b[1]["metrics"] != b[0]["metrics"]


def test_what_cannot_be_done_is_refused_with_what_can(tmp_path: Path, runs: tuple[mmreg.Run, mmreg.Run]) -> None:
    run = runs[0]
    with pytest.raises(OptionError, match="has no modality 'c'; it has a, b"):
        evaluate_robustness(run, corruptions="c:noise=1")
    with pytest.raises(OptionError, match=r"blur does not fit a, which is stored as C \(4\) float32.*fit are: noise"):
        evaluate_robustness(run, corruptions="a:blur=1")
    with pytest.raises(OptionError, match="none is asked for"):
        evaluate_robustness(run, missing=True, baseline=run)


def test_a_baseline_that_sees_something_else_is_refused(tmp_path: Path, runs: tuple[mmreg.Run, mmreg.Run]) -> None:
    run = runs[0]
    alone = train(tmp_path / "alone", epochs=1, modalities={"a": {"type": "numbers"}}, fusion=None)
    with pytest.raises(OptionError, match=r"alone has no modality 'b'; it has a"):
        evaluate_robustness(run, corruptions="b:noise=1", baseline=alone)
    three = [row for row in toys.rows(150) if row["label"] != "z"]
    with pytest.raises(RunError, match="learned another target"):
        evaluate_robustness(run, corruptions="a:noise=1", baseline=train(tmp_path / "three", three, epochs=1))
    other = train(tmp_path / "other", toys.rows(150, seed=9), epochs=1)
    with pytest.raises(RunError, match="has other test rows"):
        evaluate_robustness(run, corruptions="a:noise=1", baseline=other)
    shared = evaluate_robustness(run, toys.rows(30, seed=5), corruptions="a:noise=1", baseline=other)
    assert shared["corruptions"][0]["effective_robustness"] is not None


def test_the_bundled_modalities_take_what_fits_them(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    words = ["red", "green", "blue", "yellow", "black", "white"]
    table = []
    for number, row in enumerate(toys.rows(40)):
        row["image"] = random.integers(0, 256, (12, 12, 3), dtype=np.uint8) if number % 5 else None
        row["text"] = " ".join(random.choice(words, 8))
        row["audio"] = random.normal(0, 0.1, random.integers(800, 1600)).astype(np.float32)
        table.append(row)
    inputs = {
        "image": {"type": "image", "size": 12, "encoder": {"name": "image_cnn"}},
        "text": {"type": "text"},
        "audio": {"type": "audio", "sample_rate": 8000, "encoder": {"name": "audio_cnn"}},
    }
    run = train(tmp_path / "run", table, epochs=1, modalities=inputs)
    corruptions = "image:noise=0.3,image:blur=1.5,text:drop=0.5,audio:silence=0.5,audio:noise=1,audio:drop=0.2"
    found = evaluate_robustness(run, table, corruptions=corruptions, metrics=["log_loss"])
    clean = run.evaluate(table, metrics=["log_loss"])["metrics"]
    for one in found["corruptions"]:
        assert one["strengths"][0]["metrics"] == clean
        assert one["strengths"][1]["metrics"]["log_loss"] != clean["log_loss"], one
    with pytest.raises(OptionError, match=r"noise does not fit text, .* those that fit are: drop"):
        evaluate_robustness(run, table, corruptions="text:noise=1")


def test_a_metric_of_which_less_is_better_is_told(tmp_path: Path) -> None:
    table = [{**row, "label": float(ord(row["label"]))} for row in toys.rows(100)]
    target = {"column": "label", "task": "regression"}
    run = train(tmp_path / "run", table, target=target)
    found = evaluate_robustness(run, missing=True, corruptions="a:noise=1..3", baseline=run)
    assert (found["metric"], found["more_is_better"]) == ("mae", False)
    assert (
        found["corruptions"][0]["strengths"][-1]["metrics"]["mae"] > found["corruptions"][0]["strengths"][0]["baseline"]
    )
