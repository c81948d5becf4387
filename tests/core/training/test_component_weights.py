"""How a component's weights are trained: with a rate of their own, frozen for a while or for ever, or shared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import toys
from torch import Tensor
from toys import train

import mmreg
from mmreg import Recipe
from mmreg.contract.optimization import ParameterGroup
from mmreg.errors import RecipeError
from mmreg.experiment import build_model
from mmreg.recipe.resolve import resolve
from mmreg.training.parameters import parameter_groups, trained_weights


@pytest.fixture(autouse=True)
def _toys() -> None:
    toys.register()


def inputs(**encoders: Any) -> dict[str, Any]:
    """Two inputs, with settings of their encoders."""
    return {name: {"type": "numbers", "encoder": encoders.get(name, "linear")} for name in "ab"}


def state(run: mmreg.Run, prefix: str) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in run.model.state_dict().items() if name.startswith(prefix)}


def groups_of(modalities: dict[str, Any], **changes: Any) -> list[ParameterGroup]:
    plan = resolve(Recipe(toys.recipe(toys.rows(40), modalities=modalities, **changes)))
    return parameter_groups(build_model(plan.recipe), trained_weights(plan))


def test_a_component_has_a_rate_and_a_decay_of_its_own() -> None:
    usual = groups_of(inputs())
    assert [(group.decays, group.lr, group.weight_decay) for group in usual] == [(True, 1.0, None), (False, 1.0, None)]
    own = groups_of(inputs(a={"name": "linear", "lr": 0.1, "weight_decay": 0.5}))
    assert [(group.decays, group.lr, group.weight_decay) for group in own[2:]] == [(True, 0.1, 0.5), (False, 0.1, 0.5)]
    assert [parameter.shape for parameter in own[2].parameters] == [torch.Size([8, 4])]
    assert sum(len(group.parameters) for group in own) == sum(len(group.parameters) for group in usual)


def test_a_rate_of_nearly_nothing_moves_an_encoder_that_much_less(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"overrides": ["training.optimizer={name: SGD, lr: 0.1}", "training.schedule=null"]}
    start = build_model(toys.recipe(toys.rows())).state_dict()["encoders.a.layer.weight"]
    moved = []
    for name, lr in (("whole", 1.0), ("slow", 1e-3)):
        encoder = {"name": "linear", "lr": lr}
        run = train(
            tmp_path / name,
            modalities=inputs(a=encoder),
            **settings,
        )
        moved.append(float((state(run, "encoders.a")["encoders.a.layer.weight"] - start).norm()))
    assert 0 < moved[1] < 0.02 * moved[0]


def test_a_frozen_encoder_stays_as_it_is_statistics_included(tmp_path: Path) -> None:
    run = train(tmp_path, modalities=inputs(a={"name": "linear", "freeze": True}))
    start = build_model(toys.recipe(toys.rows())).state_dict()
    for name, tensor in state(run, "encoders.a").items():
        assert torch.equal(tensor, start[name]), name
    assert not torch.equal(run.model.state_dict()["encoders.b.layer.weight"], start["encoders.b.layer.weight"])
    assert all(parameter.requires_grad for parameter in run.model.parameters())


def test_an_encoder_may_be_frozen_until_an_epoch_also_when_the_training_is_resumed(tmp_path: Path) -> None:
    kept: list[Tensor] = []

    class Keeping(mmreg.Callback):
        def on_epoch_end(self, run: Any, epoch: mmreg.Epoch) -> None:
            kept.append(run.model.state_dict()["encoders.a.layer.weight"].clone())

    settings: dict[str, Any] = {"modalities": inputs(a={"name": "linear", "freeze": {"until_epoch": 2}})}
    whole = train(tmp_path / "whole", callback=Keeping(), **settings)
    assert torch.equal(kept[0], kept[1])
    assert not torch.equal(kept[1], kept[2])
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "stopped", callback=toys.Listening(stop_after=12), **settings)
    resumed = train(tmp_path / "stopped", resume=True, **settings)
    assert all(torch.equal(tensor, state(resumed, "")[name]) for name, tensor in state(whole, "").items())


def test_an_operator_may_be_frozen_and_a_component_s_own_option_of_that_name_goes_first(tmp_path: Path) -> None:
    class Stubborn(toys.Linear):
        def __init__(self, spec: mmreg.Spec, *, freeze: int = 0, lr: float = 5.0) -> None:
            super().__init__(spec)
            self.freeze, self.lr = freeze, lr

    mmreg.registry.register("encoder", "stubborn", Stubborn)
    encoder = {"name": "stubborn", "freeze": 3, "lr": 2.0, "weight_decay": 0.1}
    run = train(tmp_path, modalities=inputs(a=encoder), fusion={"name": "gated", "freeze": True})
    built: Any = run.model.encoder_of("a")
    assert (built.freeze, built.lr) == (3, 2.0)
    assert run.plan.inputs["a"].encoder.weights.weight_decay == 0.1
    assert run.plan.inputs["a"].encoder.weights.lr == 1.0
    start = build_model(run.plan.recipe).state_dict()
    assert all(torch.equal(tensor, start[name]) for name, tensor in state(run, "root.fusion").items())
    assert mmreg.load(tmp_path, "cpu").predict(toys.rows()) == run.predict(toys.rows())


def test_one_encoder_may_serve_two_inputs(tmp_path: Path) -> None:
    run = train(tmp_path / "run", modalities=inputs(b={"share": "a"}))
    assert run.model.encoder_of("b") is run.model.encoder_of("a")
    assert not state(run, "encoders.b")
    again = mmreg.load(tmp_path / "run")
    assert again.predict(toys.rows()) == run.predict(toys.rows())
    assert mmreg.load(tmp_path / "run").model.encoder_of("b") is not run.model.encoder_of("a")
    other = train(tmp_path / "other", modalities={"c": {"type": "numbers", "column": "a"}}, fusion=None)
    fused = mmreg.fuse([tmp_path / "run", other.folder], "mean", tmp_path / "fused")
    assert fused.model.encoder_of("b") is fused.model.encoder_of("a")
    rows = toys.rows()
    assert mmreg.load(tmp_path / "fused").predict(rows) == fused.predict(rows)


@pytest.mark.parametrize(
    ("encoders", "message"),
    [
        ({"b": {"share": "c"}}, "there is no other input 'c'"),
        ({"b": {"share": "b"}}, "there is no other input 'b'"),
        ({"b": {"share": "a", "features": 3}}, "give no options beside it"),
        ({"b": {"share": "a", "name": "linear"}}, r"give one of name \(with options\), share"),
        ({"a": {"share": "b"}, "b": {"share": "a"}}, "shares an encoder itself"),
        ({"a": {"name": "linear", "lr": 0}}, "greater than 0"),
        ({"a": {"name": "linear", "freeze": {"until_epoch": 0}}}, "greater than or equal to 1"),
    ],
)
def test_what_cannot_be_trained_so_is_told(encoders: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        resolve(Recipe(toys.recipe(toys.rows(40), modalities=inputs(**encoders))))


def test_inputs_that_differ_cannot_share_an_encoder() -> None:
    rows = [{**row, "b": row["b"][:2]} for row in toys.rows(40)]
    modalities = inputs(b={"share": "a"})
    modalities["b"]["size"] = 2
    with pytest.raises(RecipeError, match="to share an encoder they must give the same"):
        build_model(toys.recipe(rows, modalities=modalities))


def test_what_stays_frozen_is_not_counted_among_what_is_trained(tmp_path: Path) -> None:
    told: list[int] = []

    class Counting(mmreg.Callback):
        def on_start(self, run: Any, facts: Any) -> None:
            told.append(facts["parameters"])

    for name, freeze in (("all", False), ("later", {"until_epoch": 1}), ("frozen", True)):
        encoder = {"name": "linear", "freeze": freeze}
        run = train(tmp_path / name, modalities=inputs(a=encoder), callback=Counting())
    own = sum(parameter.numel() for parameter in run.model.encoder_of("a").parameters())
    assert told[0] == told[1] == told[2] + own


def test_a_shared_encoder_s_problem_is_told_of_its_owner_alone() -> None:
    modalities = inputs(a={"name": "linear", "features": "many"}, b={"share": "a"})
    with pytest.raises(RecipeError) as caught:
        resolve(Recipe(toys.recipe(toys.rows(40), modalities=modalities)))
    assert "1 problem" in str(caught.value)
    assert "modalities.a.encoder.features" in str(caught.value)
