"""Gradient blending weighs each model's loss by its progress and its overfitting."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import pytest

import mmreg
from mmreg.errors import TableError
from mmreg.training.blending import WINDOW, blending_weights

sys.path.insert(0, str(Path(__file__).parent))
import toys


def history(**courses: tuple[float, float, float, float]) -> list[dict[str, float]]:
    """Two windows: the losses (train, validation) at the end of the first and of the second."""
    rows = []
    for end in (0, 2):
        row = {}
        for name, course in courses.items():
            row[f"train_{name}_loss"], row[f"validation_{name}_loss"] = course[end : end + 2]
        rows += [row] * WINDOW
    return rows


def test_weights_follow_the_formula() -> None:
    # a: G = 0.4, O = (0.9 - 0.5) - (1.3 - 1.1) = 0.2; b: G = 0.1, O = (1.1 - 0.6) - (1.2 - 1.2) = 0.5
    weights = blending_weights(history(a=(1.1, 1.3, 0.5, 0.9), b=(1.2, 1.2, 0.6, 1.1)), ["a", "b"])
    ratio_a, ratio_b = 0.4 / 0.2**2, 0.1 / 0.5**2
    assert weights is not None
    assert weights["a"] == pytest.approx(2 * ratio_a / (ratio_a + ratio_b))
    assert weights["b"] == pytest.approx(2 * ratio_b / (ratio_a + ratio_b))


def test_a_model_that_gets_worse_gets_no_weight() -> None:
    weights = blending_weights(history(a=(1.0, 1.0, 0.5, 0.9), b=(1.0, 1.0, 0.5, 1.1)), ["a", "b"])
    assert weights == {"a": pytest.approx(2.0), "b": 0.0}


def test_nothing_is_set_before_two_windows_or_when_nothing_gets_better() -> None:
    worse = history(a=(1.0, 1.0, 0.5, 1.1))
    assert blending_weights(worse[: 2 * WINDOW - 1], ["a"]) is None
    assert blending_weights(worse, ["a"]) is None


def test_weights_hold_until_the_next_window_is_over() -> None:
    rows = history(a=(1.1, 1.3, 0.5, 0.9), b=(1.2, 1.2, 0.6, 1.1))
    rows.append(dict.fromkeys(rows[0], 0.1))
    assert blending_weights(rows, ["a", "b"]) == blending_weights(rows[:-1], ["a", "b"])


@pytest.mark.parametrize("joint", [False, 0.5])
def test_a_blended_training_resumes_and_logs_each_loss(tmp_path: Path, joint: float) -> None:
    toys.register()
    fusion = {"name": "mean", "own_loss": "gradient_blending", "joint_loss": joint}
    run = mmreg.train(
        toys.recipe(toys.rows(), fusion=fusion), tmp_path / "run", device="cpu", overrides=["training.epochs=8"]
    )
    with (run.folder / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert float(rows[0]["train_a_loss"]) > float(rows[-1]["train_a_loss"])
    sums = [float(row["train_a_loss"]) + float(row["train_b_loss"]) for row in rows]
    sums = [total + joint * float(row.get("train_mean_loss") or 0) for total, row in zip(sums, rows, strict=True)]
    assert float(rows[0]["train_loss"]) == pytest.approx(sums[0], rel=1e-4)  # weights of one to begin with
    assert float(rows[-1]["train_loss"]) != pytest.approx(sums[-1], rel=1e-4)


def test_blending_needs_validation_rows(tmp_path: Path) -> None:
    toys.register()
    table = [{**row, "split": "train"} for row in toys.rows()]
    recipe = toys.recipe(table, fusion={"name": "mean", "own_loss": "gradient_blending"})
    with pytest.raises(TableError, match="blends its losses by what validation rows show"):
        mmreg.train(recipe, tmp_path / "run", device="cpu")
