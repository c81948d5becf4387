"""Checks of optimizers and schedules: what they move and by how much, and that a training can go on where it stood.

Axes: none; the weights are of one, two and four axes.
"""

from __future__ import annotations

import copy
import io
import math
import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from mmreg.contract.optimization import Optimizer, ParameterGroup, Schedule
from mmreg.errors import MmregError
from mmreg.messages import one_line
from mmreg.testing.expectations import expect
from mmreg.testing.registration import check
from mmreg.testing.subject import Subject
from mmreg.training.checkpoint import read_state, write_state

SHAPES = ((4, 3), (3, 2, 2, 2), (5,))
"""Of a matrix, a convolution and a bias."""

STEPS, EPOCHS = 60, 30
"""How long a schedule is followed: enough for one that waits some epochs."""


def weights() -> list[nn.Parameter]:
    """One weight of each shape, none of them near zero."""
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(1 + torch.rand(shape, generator=generator)) for shape in SHAPES]


def grouped(parameters: Sequence[nn.Parameter]) -> list[ParameterGroup]:
    """Weights as a training groups them by default: those of one axis do not decay."""
    return [
        ParameterGroup([each for each in parameters if each.ndim > 1]),
        ParameterGroup([each for each in parameters if each.ndim <= 1], decays=False),
    ]


def step(optimizer: torch.optim.Optimizer, *groups: Sequence[nn.Parameter], number: int = 0) -> None:
    """One step, by its number with gradients of its own, which are the same for each group."""
    for parameters in groups:
        generator = torch.Generator().manual_seed(100 + number)
        for parameter in parameters:
            parameter.grad = torch.randn(parameter.shape, generator=generator)
    optimizer.step()


def built(subject: Subject, groups: Sequence[ParameterGroup]) -> torch.optim.Optimizer:
    """The optimizer under test over some groups."""
    component: Optimizer = subject.cls(**subject.all_options)
    return component.build(groups)


@check("optimizer")
def check_parameter_groups(subject: Subject) -> None:
    """It is an optimizer of torch over every given parameter, each once, in groups with a learning rate."""
    parameters = weights()
    optimizer = built(subject, grouped(parameters))
    expect(
        isinstance(optimizer, torch.optim.Optimizer), f"build should give a torch.optim.Optimizer, found {optimizer}"
    )
    held = [id(parameter) for group in optimizer.param_groups for parameter in group["params"]]
    lacking = [tuple(each.shape) for each in parameters if held.count(id(each)) != 1]
    expect(not lacking, f"every parameter should be in its groups once, which those of shapes {lacking} are not")
    expect(len(held) == len(parameters), f"its groups should hold {len(parameters)} parameters, found {len(held)}")
    rates = [group.get("lr") for group in optimizer.param_groups]
    fits = all(isinstance(rate, float | int | Tensor) and math.isfinite(rate) and rate >= 0 for rate in rates)
    expect(fits, f"every group should have an lr that is a number from 0 on, found {rates}")


@check("optimizer")
def check_weights_move(subject: Subject) -> None:
    """Steps move every weight that has a gradient to finite values, and leave alone one that has none."""
    parameters = weights()
    still = nn.Parameter(torch.ones(2, 2))
    before = [parameter.detach().clone() for parameter in parameters]
    optimizer = built(subject, [*grouped(parameters), ParameterGroup([still])])
    for number in range(3):
        step(optimizer, parameters, number=number)
    for parameter, value in zip(parameters, before, strict=True):
        what = f"a weight of shape {tuple(parameter.shape)}"
        expect(parameter.isfinite().all(), f"{what} should be finite after three steps")
        expect(not torch.equal(parameter, value), f"{what} has a gradient, but three steps did not move it")
    expect(torch.equal(still, torch.ones_like(still)), "a weight without a gradient was moved")


@check("optimizer")
def check_learning_rates(subject: Subject) -> None:
    """A group's multiple of the learning rate is in its "lr", and its steps are shorter where that is below one."""
    first, second = weights(), weights()
    before = [parameter.detach().clone() for parameter in first]
    optimizer = built(subject, [ParameterGroup(first), ParameterGroup(second, lr=0.1)])
    rates = {id(p): float(group["lr"]) for group in optimizer.param_groups for p in group["params"]}
    for one, other in zip(first, second, strict=True):
        ratio = rates[id(other)] / rates[id(one)] if rates[id(one)] else 0.1
        expect(
            math.isclose(ratio, 0.1, rel_tol=1e-6),
            f"a group with lr=0.1 should have a tenth of the learning rate, found {rates[id(other)]:g} beside "
            f"{rates[id(one)]:g}",
        )
    step(optimizer, first, second)
    lengths = [_length(parameters, before) for parameters in (second, first)]
    shorter = lengths[0] < 0.9 * lengths[1] or not lengths[1]
    expect(shorter, f"steps of a group with lr=0.1 should be shorter, found {lengths[0]:.3g} beside {lengths[1]:.3g}")


def _length(parameters: Sequence[Tensor], before: Sequence[Tensor]) -> float:
    squares = [(now - then).square().sum() for now, then in zip(parameters, before, strict=True)]
    return float(torch.stack(squares).sum().sqrt().detach())


@check("optimizer")
def check_weight_decay(subject: Subject) -> None:
    """Without gradients, weight decay shrinks a group that has its own, if there is any, and spares what does not."""
    decaying, spared = weights(), weights()
    before = [parameter.detach().clone() for parameter in spared]
    groups = [ParameterGroup(decaying, weight_decay=0.5), ParameterGroup(spared, decays=False)]
    try:
        optimizer = built(subject, groups)
    except MmregError:
        optimizer = built(subject, [ParameterGroup([*decaying, *spared])])
    decays = {id(p): group.get("weight_decay") for group in optimizer.param_groups for p in group["params"]}
    knows = any(decays.values())
    own = {decays[id(parameter)] for parameter in decaying}
    expect(not knows or own == {0.5}, f"a group with weight_decay=0.5 should have that as its own, found {own}")
    for parameter in (*decaying, *spared):
        parameter.grad = torch.zeros_like(parameter)
    for _ in range(3):
        optimizer.step()
    moved = _length(spared, before)
    expect(moved < 1e-4, f"without gradients, a group that does not decay should stay, it was moved by {moved:.3g}")
    shrinks = all((now.abs() < then.abs()).all() for now, then in zip(decaying, before, strict=True))
    expect(shrinks or not knows, "a group with weight_decay=0.5 should shrink, but some weights did not")


@check("optimizer")
def check_optimizer_state(subject: Subject) -> None:
    """Its state is tensors and plain data, with which a new one goes on bit for bit."""
    whole = weights()
    optimizer = built(subject, grouped(whole))
    for number in range(3):
        step(optimizer, whole, number=number)
    resumed = [nn.Parameter(parameter.detach().clone()) for parameter in whole]
    again = built(subject, grouped(resumed))
    again.load_state_dict(saved(optimizer.state_dict()))
    for number in range(3, 6):
        step(optimizer, whole, number=number)
        step(again, resumed, number=number)
    expect(_same(whole, resumed), "steps differ after the state was loaded into a new optimizer")


@check("optimizer")
def check_steps_repeat(subject: Subject) -> None:
    """Built twice it makes bit for bit the same steps."""
    ends = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        parameters = weights()
        optimizer = built(subject, grouped(parameters))
        for number in range(3):
            step(optimizer, parameters, number=number)
        ends.append(parameters)
    expect(_same(*ends), "two optimizers made different steps with the same gradients")


def _same(one: Sequence[Tensor], other: Sequence[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def saved(state: Any) -> Any:
    """A state as a checkpoint gives it back.

    Raises:
        AssertionError: it holds more than tensors and plain data.
    """
    file = io.BytesIO()
    try:
        write_state(file, state)
        file.seek(0)
        return read_state(file)
    except Exception as error:  # torch raises many kinds
        other = re.search(r"GLOBAL (\S+)", str(error))
        told = other[1] if other else one_line(error)
        raise AssertionError(f"the state should be tensors and plain data, found {told}") from error


class Course:
    """A schedule under test over an optimizer of two groups, of which the second has a tenth of the rate."""

    def __init__(self, subject: Subject) -> None:
        self.cls = subject.cls
        parameters = [nn.Parameter(torch.zeros(1)) for _ in range(2)]
        for parameter in parameters:
            parameter.grad = torch.zeros(1)
        groups = [{"params": [parameter], "lr": lr} for parameter, lr in zip(parameters, (0.1, 0.01), strict=True)]
        self.optimizer = torch.optim.SGD(groups, lr=0.1, momentum=0.9)
        component: Schedule = subject.cls(**subject.all_options)
        self.schedule = component.build(self.optimizer, steps=STEPS, epochs=EPOCHS)
        self.length = STEPS if self.cls.per_step and not self.cls.follows_loss else EPOCHS

    def rates(self) -> list[float]:
        """The learning rate of each group."""
        return [float(group["lr"]) for group in self.optimizer.param_groups]

    def go_on(self, count: int) -> list[list[float]]:
        """The rates of the next steps, and those after the last one."""
        found = [self.rates()]
        for _ in range(count):
            self.optimizer.step()
            step: Any = self.schedule.step
            step(*([1.0] if self.cls.follows_loss else []))
            found.append(self.rates())
        return found


@check("schedule")
def check_course(subject: Subject) -> None:
    """It changes the learning rate over a whole training, within finite bounds, never below zero."""
    course = Course(subject)
    schedule = course.schedule
    expect(isinstance(schedule, LRScheduler), f"build should give an LRScheduler of torch, found {schedule!r}")
    found = course.go_on(course.length)
    for number, rates in enumerate(found):
        fits = all(math.isfinite(rate) and rate >= 0 for rate in rates)
        expect(fits, f"learning rates should be finite and from 0 on, found {rates} after {number} steps of it")
    expect(all(rate > 0 for rate in found[0]), f"the first learning rates should be above 0, found {found[0]}")
    for group in range(2):
        varied = len({rates[group] for rates in found}) > 1
        expect(varied, f"it never changed the learning rate of group {group} in {course.length} steps of it")


@check("schedule")
def check_schedule_state(subject: Subject) -> None:
    """Its state is plain data, with which a new one goes on with the same learning rates."""
    whole, first, second = Course(subject), Course(subject), Course(subject)
    expected = whole.go_on(whole.length)
    half = whole.length // 2
    first.go_on(half)
    second.optimizer.load_state_dict(copy.deepcopy(first.optimizer.state_dict()))
    second.schedule.load_state_dict(saved(first.schedule.state_dict()))
    found = second.go_on(whole.length - half)
    same = found == expected[half:]
    expect(same, "learning rates differ after the state was loaded into a new schedule")
