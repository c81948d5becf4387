"""The optimizers are those of torch.optim: the same options, defaults, groups, state and steps."""

from __future__ import annotations

import copy
import inspect
from typing import Any

import pytest
import torch
from descents import default_groups, same_weights, small_model, step

from mmreg import ParameterGroup, registry
from mmreg.errors import OptionError

NAMES = [name for name in registry.names("optimizer") if name != "Muon"]

OTHER_OPTIONS: dict[str, dict[str, Any]] = {
    "ASGD": {"lr": 0.02, "t0": 2.0, "weight_decay": 0.1},
    "Adadelta": {"rho": 0.8, "foreach": False, "weight_decay": 0.1},
    "Adafactor": {"eps": [1e-6, 0.01], "beta2_decay": -0.5, "d": 2.0},
    "Adagrad": {"lr_decay": 0.1, "initial_accumulator_value": 0.1, "fused": True},
    "Adam": {"betas": [0.8, 0.9], "amsgrad": True, "weight_decay": 0.1, "decoupled_weight_decay": True},
    "AdamW": {"betas": [0.8, 0.9], "weight_decay": 0.3, "fused": True},
    "Adamax": {"betas": [0.8, 0.9], "maximize": True},
    "NAdam": {"momentum_decay": 0.01, "decoupled_weight_decay": True, "weight_decay": 0.1},
    "RAdam": {"eps": 1e-6, "foreach": True},
    "RMSprop": {"alpha": 0.9, "momentum": 0.5, "centered": True},
    "Rprop": {"etas": [0.4, 1.3], "step_sizes": [1e-5, 1.0]},
    "SGD": {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01},
}


FUSED = ("Adam", "AdamW")
"""Those that take a single kernel on a CPU, unless another way is asked for."""


def by_hand(name: str, model: torch.nn.Module, options: dict[str, Any]) -> torch.optim.Optimizer:
    """What a recipe of version 0.1 was trained by: torch's class over two groups, or one for want of weight decay."""
    cls: Any = getattr(torch.optim, name)
    accepted = inspect.signature(cls).parameters
    options = {key: tuple(value) if key == "betas" else value for key, value in options.items()}
    groups: list[dict[str, Any]] = [{"params": list(group.parameters)} for group in default_groups(model)]
    if "weight_decay" not in accepted:
        groups = [{"params": [parameter for group in groups for parameter in group["params"]]}]
    else:
        groups[0]["weight_decay"] = options.get("weight_decay", accepted["weight_decay"].default)
        groups[1]["weight_decay"] = 0.0
    return cls(groups, **options)  # type: ignore[no-any-return]


def plain(optimizer: torch.optim.Optimizer) -> tuple[Any, Any]:
    """The groups, with the shapes of their parameters, and the defaults; pairs as lists, since JSON has no tuples."""
    groups = [{**group, "params": [p.shape for p in group["params"]]} for group in optimizer.param_groups]

    def listed(options: dict[str, Any]) -> dict[str, Any]:
        return {key: list(value) if isinstance(value, tuple) else value for key, value in options.items()}

    return [listed(group) for group in groups], listed(optimizer.defaults)


def test_there_are_all_of_torch_that_suit_any_model():
    unsuited = {"Optimizer", "LBFGS", "SparseAdam"}  # the base; a loss that is called again; sparse gradients alone
    classes = [each for each in vars(torch.optim).values() if inspect.isclass(each)]
    suited = {cls.__name__ for cls in classes if issubclass(cls, torch.optim.Optimizer)} - unsuited
    assert set(registry.names("optimizer")) == suited


@pytest.mark.parametrize("name", NAMES)
def test_options_and_defaults_are_torch_s(name):
    theirs = dict(inspect.signature(getattr(torch.optim, name)).parameters)
    del theirs["params"]
    ours = inspect.signature(registry.get("optimizer", name)).parameters
    assert {key: value.default for key, value in ours.items()} == {key: value.default for key, value in theirs.items()}


@pytest.mark.parametrize("options", [{}, OTHER_OPTIONS], ids=["defaults", "others"])
@pytest.mark.parametrize("name", NAMES)
def test_groups_state_and_steps_are_those_of_torch_by_hand(name, options):
    options = options.get(name, {})
    ours, theirs = small_model(), small_model()
    optimizer = registry.build("optimizer", name, **options).build(default_groups(ours))
    fused = {"fused": True} if name in FUSED and not options.get("foreach") else {}
    reference = by_hand(name, theirs, {**fused, **options})
    assert type(optimizer) is type(reference)
    assert plain(optimizer) == plain(reference)
    for number in range(5):
        step(ours, optimizer, number)
        step(theirs, reference, number)
    assert same_weights(ours, theirs)
    assert not same_weights(ours, small_model())


@pytest.mark.parametrize("name", FUSED)
def test_a_single_kernel_steps_as_torch_does_by_itself(name):
    ours, theirs = small_model(), small_model()
    optimizer = registry.build("optimizer", name).build(default_groups(ours))
    reference = by_hand(name, theirs, {})
    assert all(group["fused"] for group in optimizer.param_groups)
    for number in range(20):
        step(ours, optimizer, number)
        step(theirs, reference, number)
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, other, atol=1e-7, rtol=1e-6)


def test_a_checkpoint_of_torch_by_hand_is_gone_on_with():
    ours, theirs = small_model(), small_model()
    reference = by_hand("AdamW", theirs, {"lr": 0.01})
    for number in range(3):
        step(theirs, reference, number)
    ours.load_state_dict(theirs.state_dict())
    optimizer = registry.build("optimizer", "AdamW", lr=0.01).build(default_groups(ours))
    optimizer.load_state_dict(copy.deepcopy(reference.state_dict()))
    for number in range(3, 6):
        step(ours, optimizer, number)
        step(theirs, reference, number)
    assert same_weights(ours, theirs)


def test_each_group_has_its_multiple_of_the_rate_and_its_own_weight_decay():
    weights = [torch.nn.Parameter(torch.ones(2, 2)) for _ in range(4)]
    groups = [
        ParameterGroup(weights[:1]),
        ParameterGroup(weights[1:2], lr=0.1),
        ParameterGroup(weights[2:3], decays=False, weight_decay=0.5),
        ParameterGroup(weights[3:], weight_decay=0.5),
    ]
    built = registry.build("optimizer", "AdamW", lr=0.5).build(groups)
    assert [group["lr"] for group in built.param_groups] == [0.5, 0.05, 0.5, 0.5]
    assert [group["weight_decay"] for group in built.param_groups] == [0.01, 0.01, 0.0, 0.5]
    assert [id(group["params"][0]) for group in built.param_groups] == list(map(id, weights))


def test_without_weight_decay_groups_of_one_rate_are_one():
    weights = [torch.nn.Parameter(torch.ones(2)) for _ in range(3)]
    groups = [ParameterGroup(weights[:1]), ParameterGroup(weights[1:2], lr=0.1), ParameterGroup(weights[2:], False)]
    built = registry.build("optimizer", "Rprop", lr=1.0).build(groups)
    assert [group["lr"] for group in built.param_groups] == [1.0, 0.1]
    assert [[id(p) for p in group["params"]] for group in built.param_groups] == [
        [id(weights[0]), id(weights[2])],
        [id(weights[1])],
    ]
    with pytest.raises(OptionError, match=r"weight_decay 0\.1 was asked for"):
        registry.build("optimizer", "Rprop").build([ParameterGroup(weights, weight_decay=0.1)])


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("AdamW", {"lr": -1}, "lr: must be greater than or equal to 0"),
        ("AdamW", {"lr": "0.1"}, "lr: must be a valid number"),
        ("AdamW", {"betas": [0.9, 1.0]}, "betas.1: must be less than 1"),
        ("AdamW", {"betas": [0.9]}, "betas"),
        ("SGD", {"momentm": 0.9}, "momentm: is no option here; did you mean 'momentum'"),
        ("Adafactor", {"d": 0.5}, "d: must be greater than or equal to 1"),
        ("SGD", {"fused": 1}, "fused: must be a valid boolean"),
    ],
)
def test_wrong_options_are_refused_with_their_name(name, options, message):
    with pytest.raises(OptionError, match=message):
        registry.build("optimizer", name, **options)


def test_what_torch_alone_can_tell_is_refused_when_it_is_built():
    with pytest.raises(ValueError, match="Nesterov momentum requires a momentum"):
        registry.build("optimizer", "SGD", nesterov=True).build(default_groups(small_model()))


def test_copies_are_independent():
    model = small_model()
    other = copy.deepcopy(model)
    component = registry.build("optimizer", "Adam")
    one, two = component.build(default_groups(model)), component.build(default_groups(other))
    step(model, one, 0)
    assert not two.state
    assert not same_weights(model, other)
