"""Schedules set the rates that torch's schedulers set, or that a formula gives, over a whole training."""

from __future__ import annotations

import inspect
import math
from typing import Any

import pytest
from descents import toy_optimizer
from torch.optim import lr_scheduler

from mmreg import registry
from mmreg.errors import OptionError

EPOCHS = 6
STEPS = 30
OURS = ("cosine", "linear", "one_cycle")
THEIRS = [name for name in registry.names("schedule") if name not in OURS]

OPTIONS: dict[str, dict[str, Any]] = {
    "CosineAnnealingWarmRestarts": {"T_0": 2},
    "CyclicLR": {"base_lr": 0.01, "max_lr": 0.1, "step_size_up": 2},
    "ExponentialLR": {"gamma": 0.9},
    "MultiStepLR": {"milestones": [1, 3]},
    "OneCycleLR": {"max_lr": 0.3},
    "ReduceLROnPlateau": {"patience": 0},
    "StepLR": {"step_size": 2},
}
LENGTH = {"CosineAnnealingLR": {"T_max": EPOCHS}, "OneCycleLR": {"total_steps": EPOCHS}}
"""What torch has to be told, and a component is told by the training."""


def rates(schedule: lr_scheduler.LRScheduler, steps: int) -> list[list[float]]:
    """Each group's rate, and its momentum, before the first step and after each."""
    optimizer = schedule.optimizer
    found = [[value for group in optimizer.param_groups for value in (group["lr"], group["momentum"])]]
    for _ in range(steps):
        optimizer.step()
        schedule.step(*([1.0] if isinstance(schedule, lr_scheduler.ReduceLROnPlateau) else []))
        found.append([value for group in optimizer.param_groups for value in (group["lr"], group["momentum"])])
    return found


def test_there_are_all_of_torch_that_plain_options_can_build():
    # Bases; functions or other schedulers for options; weights that are averaged.
    unsuited = {"LRScheduler", "LambdaLR", "MultiplicativeLR", "ChainedScheduler", "SequentialLR", "SWALR"}
    classes = [each for each in vars(lr_scheduler).values() if inspect.isclass(each)]
    suited = {cls.__name__ for cls in classes if issubclass(cls, lr_scheduler.LRScheduler)}
    assert set(THEIRS) == {name for name in suited if not name.startswith("_")} - unsuited


@pytest.mark.parametrize("name", THEIRS)
def test_options_and_defaults_are_torch_s(name):
    theirs = dict(inspect.signature(getattr(lr_scheduler, name)).parameters)
    for left_out in ("optimizer", "last_epoch", "scale_fn"):
        theirs.pop(left_out, None)
    defaults = {key: value.default for key, value in theirs.items()}
    ours = inspect.signature(registry.get("schedule", name)).parameters
    from_the_training = {"T_max": None} if name == "CosineAnnealingLR" else {}
    assert {key: value.default for key, value in ours.items()} == defaults | from_the_training


@pytest.mark.parametrize("name", THEIRS)
def test_rates_are_those_of_torch_by_hand(name):
    options = OPTIONS.get(name, {})
    ours = registry.build("schedule", name, **options).build(toy_optimizer(), steps=STEPS, epochs=EPOCHS)
    theirs = getattr(lr_scheduler, name)(toy_optimizer(), **{**LENGTH.get(name, {}), **options})
    found = rates(ours, EPOCHS)
    assert found == rates(theirs, EPOCHS)
    assert len({tuple(each) for each in found}) > 1
    assert not registry.get("schedule", name).per_step


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize("options", [{}, {"warmup": 0.2, "final": 0.1}, {"warmup": 0.0}], ids=str)
def test_rates_with_warm_up_are_those_of_the_formula(name, options):
    assert registry.get("schedule", name).per_step
    schedule = registry.build("schedule", name, **options).build(toy_optimizer(), steps=STEPS, epochs=EPOCHS)
    found = [each[0] for each in rates(schedule, STEPS)]
    warmup = options.get("warmup", 0.3 if name == "one_cycle" else 0.0) * STEPS
    final = options.get("final", 0.0)
    for step, rate in enumerate(found):
        if step < warmup:
            expected = (step + 1) / (warmup + 1)
        else:
            done = min(1, (step - warmup) / (STEPS - warmup))
            left = 1 - done if name == "linear" else (1 + math.cos(math.pi * done)) / 2
            expected = final + (1 - final) * left
        assert rate == pytest.approx(0.1 * expected, abs=1e-15)
    assert max(found) == pytest.approx(0.1, rel=0.2)
    assert found[-1] == pytest.approx(0.1 * final)


@pytest.mark.parametrize("name", [*OURS, *THEIRS])
def test_groups_keep_the_proportions_of_their_rates(name):
    schedule = registry.build("schedule", name, **OPTIONS.get(name, {})).build(
        toy_optimizer((1.0, 0.1)), steps=EPOCHS, epochs=EPOCHS
    )
    for first, _, second, _ in rates(schedule, EPOCHS):
        assert second == pytest.approx(0.1 * first, abs=1e-12)


@pytest.mark.parametrize("name", ["CyclicLR", "OneCycleLR"])
def test_rates_that_are_given_by_group_are_taken_as_they_are(name):
    options = {**OPTIONS[name], "max_lr": [0.3, 0.5]}
    schedule = registry.build("schedule", name, **options).build(toy_optimizer((1.0, 0.1)), steps=EPOCHS, epochs=EPOCHS)
    found = rates(schedule, EPOCHS)
    assert [max(each[group] for each in found) for group in (0, 2)] == pytest.approx([0.3, 0.5], rel=0.1)


def test_an_optimizer_whose_rate_is_zero_takes_given_rates_as_they_are():
    schedule = registry.build("schedule", "OneCycleLR", max_lr=0.3).build(
        toy_optimizer(lr=0.0), steps=EPOCHS, epochs=EPOCHS
    )
    assert max(each[0] for each in rates(schedule, EPOCHS)) == pytest.approx(0.3, rel=0.1)


@pytest.mark.parametrize(
    ("options", "length"),
    [({}, EPOCHS), ({"total_steps": 4}, 4), ({"epochs": 3, "steps_per_epoch": 3}, 9), ({"epochs": 3}, EPOCHS)],
    ids=str,
)
def test_one_cycle_of_torch_is_as_long_as_it_says_or_as_the_training(options, length):
    schedule = registry.build("schedule", "OneCycleLR", max_lr=0.1, **options).build(
        toy_optimizer(), steps=STEPS, epochs=EPOCHS
    )
    assert schedule.total_steps == length


def test_a_cosine_may_be_shorter_than_the_training():
    schedule = registry.build("schedule", "CosineAnnealingLR", T_max=3).build(toy_optimizer(), steps=9, epochs=9)
    assert rates(schedule, 3)[-1][0] == pytest.approx(0.0, abs=1e-15)


def test_the_one_that_follows_the_loss_says_so():
    following = [name for name in registry.names("schedule") if registry.get("schedule", name).follows_loss]
    assert following == ["ReduceLROnPlateau"]


@pytest.mark.parametrize("name", [*OURS, *THEIRS])
def test_a_saved_state_goes_on_with_the_same_rates(name):
    component = registry.build("schedule", name, **OPTIONS.get(name, {}))
    whole, first = toy_optimizer(), toy_optimizer()
    expected = rates(component.build(whole, steps=EPOCHS, epochs=EPOCHS), EPOCHS)
    schedule = component.build(first, steps=EPOCHS, epochs=EPOCHS)
    rates(schedule, 3)
    second = toy_optimizer()
    resumed = component.build(second, steps=EPOCHS, epochs=EPOCHS)
    second.load_state_dict(first.state_dict())
    resumed.load_state_dict(schedule.state_dict())
    second.step()  # as torch warns of a schedule that is stepped before its optimizer
    assert rates(resumed, EPOCHS - 3) == expected[3:]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("StepLR", {}, "step_size: is missing"),
        ("StepLR", {"step_size": 0}, "step_size: must be greater than or equal to 1"),
        ("cosine", {"warmup": 1.0}, "warmup: must be less than 1"),
        ("linear", {"finl": 0.1}, "finl: is no option here; did you mean 'final'"),
        ("CyclicLR", {"base_lr": 0.1, "max_lr": 0.2, "mode": "round"}, "mode: must be 'triangular'"),
    ],
)
def test_wrong_options_are_refused_with_their_name(name, options, message):
    with pytest.raises(OptionError, match=message):
        registry.build("schedule", name, **options)
