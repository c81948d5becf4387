"""What of a training is compiled or recorded, by recipe and device."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch

WORTH_COMPILING = 20_000
"""Steps from which on compiling the encoders, about a minute, is made up for."""


class Compilation(NamedTuple):
    """Whether steps are recorded as graphs of the device, and whether encoders are compiled by `torch.compile`."""

    steps: bool
    encoders: bool


def compilation(choice: Literal["auto"] | bool, device: torch.device, steps: int) -> Compilation:
    """What a recipe's `training.compile` means.

    Args:
        choice: what the recipe says.
        device: where the training computes.
        steps: how many steps it has.
    """
    if choice is False:
        return Compilation(False, False)
    is_cuda = device.type == "cuda"
    return Compilation(is_cuda, choice is True or (is_cuda and steps >= WORTH_COMPILING))
