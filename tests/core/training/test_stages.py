"""Encoders with stages: those nearest to the input may stay as they are, or move less than those that follow."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import toys
from torch import Tensor, nn

import mmreg
from mmreg import Features, Recipe, Signal, Spec, registry
from mmreg.errors import RecipeError
from mmreg.experiment import build_model
from mmreg.recipe.resolve import resolve
from mmreg.training.parameters import Freezing, parameter_groups, trained_weights


class Staged(mmreg.Encoder):
    """Three layers with norms, the last of which is new and in no stage."""

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        size = spec.size("C")
        assert size is not None
        self.layers = nn.ModuleList(nn.Sequential(nn.Linear(size, size), nn.BatchNorm1d(size)) for _ in range(2))
        self.last = nn.Linear(size, 8)
        self.out_features = 8

    def stages(self) -> Sequence[nn.Module]:
        return list(self.layers)

    def forward(self, signal: Signal) -> Features:
        values: Tensor = signal.values
        for layer in self.layers:
            values = layer(values).relu()
        return Features(pooled=self.last(values))


@pytest.fixture(autouse=True)
def _toys() -> None:
    toys.register()
    registry.register("encoder", "staged", Staged)


def modalities(**weights: Any) -> dict[str, Any]:
    return {"a": {"type": "numbers", "encoder": {"name": "staged", **weights}}, "b": {"type": "numbers"}}


def test_the_first_stages_stay_as_they_are_statistics_included(tmp_path: Path) -> None:
    run = toys.train(tmp_path, modalities=modalities(freeze=1))
    start, end = build_model(run.plan.recipe).state_dict(), run.model.state_dict()
    moved = {name for name, tensor in end.items() if name.startswith("encoders.a") and not tensor.equal(start[name])}
    assert moved
    assert not any(name.startswith("encoders.a.layers.0") for name in moved)
    assert {"encoders.a.layers.1.0.weight", "encoders.a.layers.1.1.running_mean", "encoders.a.last.weight"} <= moved
    assert mmreg.load(tmp_path).plan.inputs["a"].encoder.weights.frozen_stages == 1
    assert all(parameter.requires_grad for parameter in run.model.parameters())


def test_each_stage_moves_less_than_the_next_one() -> None:
    plan = resolve(Recipe(toys.recipe(toys.rows(40), modalities=modalities(lr=0.5, layer_decay=0.1))))
    model = build_model(plan.recipe)
    rates = {id(p): group.lr for group in parameter_groups(model, trained_weights(plan)) for p in group.parameters}
    encoder: Any = model.encoder_of("a")
    for module, rate in [(encoder.layers[0], 0.005), (encoder.layers[1], 0.05), (encoder.last, 0.5)]:
        assert {round(rates[id(parameter)], 12) for parameter in module.parameters()} == {rate}
    assert {rates[id(parameter)] for parameter in model.encoder_of("b").parameters()} == {1.0}
    assert len(rates) == len(list(model.parameters()))


def test_a_frozen_stage_is_in_no_group_and_computes_as_in_use() -> None:
    plan = resolve(Recipe(toys.recipe(toys.rows(40), modalities=modalities(freeze=2, layer_decay=0.1))))
    model = build_model(plan.recipe)
    encoder: Any = model.encoder_of("a")
    grouped = {id(p) for group in parameter_groups(model, trained_weights(plan)) for p in group.parameters}
    assert not grouped & {id(parameter) for parameter in encoder.layers.parameters()}
    freezing = Freezing(model, trained_weights(plan))
    model.train()
    freezing.begin(0)
    assert [layer.training for layer in encoder.layers] == [False, False]
    assert encoder.last.training
    assert not any(parameter.requires_grad for parameter in encoder.layers.parameters())
    assert all(parameter.requires_grad for parameter in encoder.last.parameters())
    freezing.end()
    assert all(parameter.requires_grad for parameter in encoder.parameters())


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        ({"name": "staged", "freeze": 3}, "freezes 3 stages, but staged has 2 stages; freeze: true freezes all of it"),
        ({"name": "linear", "freeze": 1}, "freezes 1 stage, but linear has none"),
        ({"name": "linear", "layer_decay": 0.5}, "linear has no stages; leave it out"),
        ({"name": "staged", "layer_decay": 0}, "greater than 0"),
        ({"name": "staged", "freeze": 0}, "freeze"),
    ],
)
def test_stages_that_are_not_there_are_refused(encoder: dict[str, Any], message: str) -> None:
    recipe = toys.recipe(toys.rows(40), modalities={"a": {"type": "numbers", "encoder": encoder}}, fusion=None)
    with pytest.raises(RecipeError, match=message):
        build_model(recipe)
