"""Gradient blending weighs each model's loss by its progress and its overfitting."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
import toys

import mmreg
from mmreg import Epoch, MetricValue, registry
from mmreg.errors import MmregError, TableError
from mmreg.model.nodes import ModelNode
from mmreg.training.blending import WINDOW, blending_weights
from mmreg.training.checkpoint import load_checkpoint
from mmreg.training.loop import Trainer

AB = {"a": "a", "b": "b"}
"""Two parts, each with a validation loss of its own."""


def epoch_of(**losses: tuple[float, float]) -> Epoch:
    """An epoch with such losses (train, validation)."""
    values = [(name, *each) for name, two in losses.items() for each in zip(("train", "validation"), two, strict=True)]
    return Epoch(1, 1, 0.1, tuple(MetricValue(split, name, "loss", value) for name, split, value in values))


def history(**courses: tuple[float, float, float, float]) -> list[Epoch]:
    """Two windows: the losses (train, validation) at the end of the first and of the second."""
    first = epoch_of(**{name: (course[0], course[1]) for name, course in courses.items()})
    second = epoch_of(**{name: (course[2], course[3]) for name, course in courses.items()})
    return [first] * WINDOW + [second] * WINDOW


def test_weights_follow_the_formula() -> None:
    # a: G = 0.4, O = (0.9 - 0.5) - (1.3 - 1.1) = 0.2; b: G = 0.1, O = (1.1 - 0.6) - (1.2 - 1.2) = 0.5
    weights = blending_weights(history(a=(1.1, 1.3, 0.5, 0.9), b=(1.2, 1.2, 0.6, 1.1)), AB)
    ratio_a, ratio_b = 0.4 / 0.2**2, 0.1 / 0.5**2
    assert weights is not None
    assert weights["a"] == pytest.approx(2 * ratio_a / (ratio_a + ratio_b))
    assert weights["b"] == pytest.approx(2 * ratio_b / (ratio_a + ratio_b))


def test_a_model_that_gets_worse_gets_no_weight() -> None:
    weights = blending_weights(history(a=(1.0, 1.0, 0.5, 0.9), b=(1.0, 1.0, 0.5, 1.1)), AB)
    assert weights == {"a": pytest.approx(2.0), "b": 0.0}


def test_nothing_is_set_before_two_windows_or_when_nothing_gets_better() -> None:
    worse = history(a=(1.0, 1.0, 0.5, 1.1))
    assert blending_weights(worse[: 2 * WINDOW - 1], {"a": "a"}) is None
    assert blending_weights(worse, {"a": "a"}) is None


def test_weights_hold_until_the_next_window_is_over() -> None:
    epochs = history(a=(1.1, 1.3, 0.5, 0.9), b=(1.2, 1.2, 0.6, 1.1))
    epochs.append(epoch_of(a=(0.1, 0.1), b=(0.1, 0.1)))
    assert blending_weights(epochs, AB) == blending_weights(epochs[:-1], AB)


@pytest.mark.parametrize("joint", [False, 0.5])
def test_a_blended_training_logs_each_loss(tmp_path: Path, joint: float) -> None:
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


@pytest.mark.parametrize("joint", [False, 0.5])
def test_a_part_of_noise_loses_its_weight_and_the_training_resumes_as_if_never_stopped(
    tmp_path: Path, joint: float
) -> None:
    toys.register()
    generator = np.random.default_rng(0)
    table = [{**row, "b": generator.normal(0, 1, 4).tolist()} for row in toys.rows(100)]
    recipe = toys.recipe(table, fusion={"name": "mean", "own_loss": "gradient_blending", "joint_loss": joint})
    settings: dict[str, Any] = {"device": "cpu", "overrides": ["training.epochs=20"]}
    whole = mmreg.train(recipe, tmp_path / "whole", **settings)
    written = load_checkpoint(whole.folder)[0]["progress"]["history"]
    epochs = [Epoch.from_plain(each) for each in written]
    parts = {**AB, "mean": ""} if joint else AB
    weights = [blending_weights(epochs[:epoch], parts) for epoch in range(20)]
    assert any(each is not None and each["b"] == 0 for each in weights)
    with pytest.raises(KeyboardInterrupt):
        mmreg.train(recipe, tmp_path / "again", callback=toys.Listening(stop_after=66), **settings)  # in epoch 17
    again = mmreg.train(recipe, tmp_path / "again", resume=True, **settings)
    state = again.model.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in whole.model.state_dict().items())


def test_a_joint_loss_that_gets_worse_has_no_weight_until_it_gets_better_again() -> None:
    joints = [1, 0.95, 0.9, 0.85, 0.8, 0.75, 0.8, 0.85, 0.9, 0.7, 0.6, 0.5]
    rows = []
    for number, joint in enumerate(joints):
        parts = epoch_of(**dict.fromkeys("ab", (1 - 0.01 * number, 1 - 0.01 * number)))
        whole = MetricValue("train", "mean", "loss", 1 - 0.05 * number), MetricValue("validation", "", "loss", joint)
        rows.append(replace(parts, values=(*parts.values, *whole)))

    def blend(node: ModelNode, epochs: int) -> float:
        model = SimpleNamespace(root=node, modules=lambda: [node], balance=None, balanced=None)
        Trainer._blend(cast(Any, SimpleNamespace(model=model, progress=SimpleNamespace(history=rows[:epochs]))))
        return node.joint_loss

    def node() -> ModelNode:
        fusion = registry.build("fusion", "mean", {"a": 4, "b": 4}, num_outputs=3, space="log_probabilities")
        return ModelNode("mean", ["a", "b"], fusion, {}, {"a": 1.0, "b": 1.0}, 0.5, gradient_blending=True)

    followed = node()
    weights = [blend(followed, epochs) for epochs in range(len(rows) + 1)]
    assert weights[0] == 0.5
    assert weights[6] > 0
    assert weights[9] == 0
    assert weights[12] > 0
    assert weights == [blend(node(), epochs) for epochs in range(len(rows) + 1)]  # as a resumed training finds them


def test_a_part_that_no_validation_row_has_keeps_its_weight(tmp_path: Path) -> None:
    toys.register()
    table = [{**row, "b": None if row["split"] == "validation" else row["b"]} for row in toys.rows(100)]
    fusion = {"name": "mean", "own_loss": "gradient_blending"}
    run = mmreg.train(toys.recipe(table, fusion=fusion), tmp_path, device="cpu", overrides=["training.epochs=8"])
    assert isinstance(run.model.root, ModelNode)
    assert run.model.root.own_losses["b"] == 1.0


def test_blending_needs_validation_rows(tmp_path: Path) -> None:
    toys.register()
    table = [{**row, "split": "train"} for row in toys.rows()]
    recipe = toys.recipe(table, fusion={"name": "mean", "own_loss": "gradient_blending"})
    with pytest.raises(TableError, match="blends its losses by what validation rows show"):
        mmreg.train(recipe, tmp_path / "run", device="cpu")


def test_a_balance_blends_the_fused_loss_and_each_modality_s_own_as_the_formula_says(tmp_path: Path) -> None:
    toys.register()
    generator = np.random.default_rng(0)
    table = [{**row, "b": generator.normal(0, 1, 4).tolist()} for row in toys.rows(100)]
    recipe = toys.recipe(table, fusion="sum")
    settings: dict[str, Any] = {
        "device": "cpu",
        "overrides": ["training.epochs=20", "training.balance=gradient_blending"],
    }
    whole = mmreg.train(recipe, tmp_path / "whole", **settings)
    epochs = [Epoch.from_plain(each) for each in load_checkpoint(whole.folder)[0]["progress"]["history"]]
    parts = {**AB, "sum": ""}
    weights = [blending_weights(epochs[:number], parts) or {} for number in range(20)]
    for epoch, each in zip(epochs, weights, strict=True):
        total = sum(each.get(name, 1.0) * (epoch.get("train", "loss", name) or 0) for name in parts)
        assert epoch.get("train", "loss") == pytest.approx(total, rel=1e-4)
    assert weights[5] == {}
    assert any(each and each["b"] == 0 for each in weights)
    with pytest.raises(KeyboardInterrupt):
        mmreg.train(recipe, tmp_path / "again", callback=toys.Listening(stop_after=66), **settings)  # in epoch 17
    again = mmreg.train(recipe, tmp_path / "again", resume=True, **settings)
    state = again.model.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in whole.model.state_dict().items())


def test_the_first_epochs_are_those_of_own_losses(tmp_path: Path) -> None:
    toys.register()
    blended, own = (
        toys.train(tmp_path / name, overrides=["training.epochs=6", f"training.balance={name}"])
        for name in ("gradient_blending", "own_losses")
    )
    state = own.model.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in blended.model.state_dict().items())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"fusion": {"name": "mean", "of": ["c", {"name": "sum", "of": ["a", "b"]}]}},
            "weighs the loss of the whole model, and sum gives a part of mean's: set own_loss: gradient_blending of ",
        ),
        (
            {"table": [{**row, "split": "train"} for row in toys.rows()]},
            "gradient_blending blends its losses by what valid",
        ),
    ],
)
def test_a_balance_that_blends_is_refused_where_it_cannot(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    toys.register()
    table = [{**row, "c": row["a"]} for row in changes.pop("table", toys.rows())]
    modalities = {name: {"type": "numbers"} for name in ("abc" if "fusion" in changes else "ab")}
    recipe = toys.recipe(table, modalities=modalities, **changes)
    with pytest.raises(MmregError, match=message):
        mmreg.train(recipe, tmp_path / "run", device="cpu", overrides=["training.balance=gradient_blending"])
