"""Whether an optimizer and a schedule work with their options, tried before a training is begun."""

from __future__ import annotations

from mmreg.contract.optimization import ParameterGroup
from mmreg.messages import one_line, plural
from mmreg.recipe.components import Component

TRIED = 5_000
"""Epochs that are gone through at most: a schedule that fails later is rare, and so many take a fifth of a second."""


def refusal(optimizer: Component, schedule: Component | None, epochs: int) -> tuple[str, str] | None:
    """Build both for a toy model and go through the epochs of a training, as some fail no earlier.

    Returns:
        The key, "optimizer" or "schedule", and what is wrong with it; None if nothing is.
    """
    import torch
    from torch import nn

    matrix, bias = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2))
    groups = [ParameterGroup([matrix]), ParameterGroup([bias], decays=False)]
    for parameter in (matrix, bias):
        parameter.grad = torch.zeros_like(parameter)
    try:
        built: torch.optim.Optimizer = optimizer.build().build(groups)
        built.step()
    except Exception as error:  # torch, or a plugin, raises anything
        told = f"optimizer {optimizer.name} refuses its options {dict(optimizer.options)}: {one_line(error)}"
        return "optimizer", told
    if schedule is None:
        return None
    try:
        course = schedule.build().build(built, steps=epochs, epochs=epochs)
        for _ in range(min(epochs, TRIED)):
            built.step()
            course.step(*([1.0] if schedule.cls.follows_loss else []))
    except Exception as error:  # what comes of it, such as a division by zero
        told = f"schedule {schedule.name} with {dict(schedule.options)} fails over {plural(epochs, 'epoch')}"
        return "schedule", f"{told}: {one_line(error)}"
    return None
