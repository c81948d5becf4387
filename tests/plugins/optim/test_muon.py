"""Muon moves matrices and AdamW all else, behind the interface of one optimizer."""

from __future__ import annotations

import copy
import inspect

import pytest
import torch
from descents import default_groups, same_weights, small_model, step

from mmreg import ParameterGroup, registry

OPTIONS = {"lr": 0.02, "weight_decay": 0.2, "adamw_lr": 0.003, "adamw_weight_decay": 0.05}


def by_hand(model: torch.nn.Module) -> tuple[torch.optim.Optimizer, torch.optim.Optimizer]:
    matrices = [parameter for parameter in model.parameters() if parameter.ndim == 2]
    convolutions = [parameter for parameter in model.parameters() if parameter.ndim > 2]
    others = [parameter for parameter in model.parameters() if parameter.ndim < 2]
    groups = [{"params": convolutions, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.Muon(matrices, lr=0.02, weight_decay=0.2), torch.optim.AdamW(groups, lr=0.003)


def test_defaults_are_those_of_torch_s_muon_and_adamw():
    ours = {
        name: each.default for name, each in inspect.signature(registry.get("optimizer", "Muon")).parameters.items()
    }
    muon = inspect.signature(torch.optim.Muon).parameters
    adamw = inspect.signature(torch.optim.AdamW).parameters
    theirs = {name: each.default for name, each in muon.items() if name != "params"}
    theirs |= {f"adamw_{name}": adamw[name].default for name in ("lr", "betas", "eps", "weight_decay")}
    assert ours == theirs


def test_steps_are_those_of_muon_and_adamw_side_by_side():
    ours, theirs = small_model(), small_model()
    optimizer = registry.build("optimizer", "Muon", **OPTIONS).build(default_groups(ours))
    references = by_hand(theirs)
    for number in range(5):
        step(ours, optimizer, number)
        for reference in references[:1]:
            step(theirs, reference, number)  # leaves the gradients where they are
        references[1].step()
    assert same_weights(ours, theirs)


def test_a_group_is_split_by_shape_in_place():
    matrix, vector = torch.nn.Parameter(torch.ones(2, 3)), torch.nn.Parameter(torch.ones(2))
    groups = [
        ParameterGroup([vector, matrix], lr=0.5, weight_decay=0.7),
        ParameterGroup([copy.deepcopy(vector)], False),
    ]
    built = registry.build("optimizer", "Muon", lr=0.02, adamw_lr=0.003).build(groups)
    found = [("momentum" in group, group["lr"], group["weight_decay"]) for group in built.param_groups]
    assert found == [(True, 0.01, 0.7), (False, 0.0015, 0.7), (False, 0.003, 0.0)]


@pytest.mark.parametrize("shape", [(2, 3), (3,), (2, 1, 2, 2)], ids=["matrices", "vectors", "convolutions"])
def test_a_model_of_one_sort_alone_is_trained(shape):
    weight = torch.nn.Parameter(torch.ones(shape))
    built = registry.build("optimizer", "Muon").build([ParameterGroup([weight])])
    weight.grad = torch.ones(shape)
    built.step()
    assert not torch.equal(weight, torch.ones(shape))


def test_a_schedule_changes_the_rates_of_both():
    model = small_model()
    optimizer = registry.build("optimizer", "Muon", **OPTIONS).build(default_groups(model))
    schedule = registry.build("schedule", "linear").build(optimizer, steps=4, epochs=1)
    before = copy.deepcopy(model)
    for number in range(4):
        step(model, optimizer, number)
        schedule.step()
    moved = copy.deepcopy(model)
    assert [group["lr"] for group in optimizer.param_groups] == [0.0, 0.0, 0.0]
    step(model, optimizer, 5)
    assert not same_weights(before, moved)
    assert same_weights(model, moved)


def test_a_greatest_rate_is_that_of_matrices_and_the_others_keep_their_proportion():
    optimizer = registry.build("optimizer", "Muon", **OPTIONS).build(default_groups(small_model()))
    schedule = registry.build("schedule", "OneCycleLR", max_lr=0.2, cycle_momentum=False)
    schedule.build(optimizer, steps=4, epochs=4)
    assert [group["max_lr"] for group in optimizer.param_groups] == pytest.approx([0.2, 0.03, 0.03])


def test_a_saved_state_goes_on_bit_for_bit(tmp_path):
    ours = small_model()
    component = registry.build("optimizer", "Muon", **OPTIONS)
    optimizer = component.build(default_groups(ours))
    for number in range(3):
        step(ours, optimizer, number)
    for group in optimizer.param_groups:  # as a schedule would
        group["lr"] /= 2
    torch.save({"model": ours.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "state.pt")
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    resumed = small_model()
    resumed.load_state_dict(state["model"])
    again = component.build(default_groups(resumed))
    again.load_state_dict(state["optimizer"])
    for number in range(3, 6):
        step(ours, optimizer, number)
        step(resumed, again, number)
    assert same_weights(ours, resumed)


def test_a_gradient_scaler_works_with_it_and_leaves_out_a_step_that_overflows():
    ours, theirs = small_model(), small_model()
    component = registry.build("optimizer", "Muon", **OPTIONS)
    one, two = component.build(default_groups(ours)), component.build(default_groups(theirs))
    scaler = torch.amp.grad_scaler.GradScaler("cpu", init_scale=8.0)
    images, labels = torch.randn(5, 1, 3, 3, generator=torch.Generator().manual_seed(0)), torch.arange(5) % 3
    for factor in (1.0, float("inf")):
        one.zero_grad()
        loss = torch.nn.functional.cross_entropy(ours(images), labels) * factor
        scaler.scale(loss).backward()
        scaler.step(one)
        scaler.update()
    step(theirs, two, 0)
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b)
    assert scaler.get_scale() == 4.0


def test_gradients_are_cleared_and_a_closure_is_called():
    model = small_model()
    optimizer = registry.build("optimizer", "Muon").build(default_groups(model))

    def closure() -> float:
        loss = model(torch.ones(2, 1, 3, 3)).square().sum()
        loss.backward()
        return float(loss.detach())

    assert optimizer.step(closure) > 0
    optimizer.zero_grad()
    assert all(parameter.grad is None for parameter in model.parameters())
