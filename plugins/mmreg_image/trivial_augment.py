"""TrivialAugment for a whole batch: one random operation of random strength for each picture.

Axes: B batch, C channels, H W height and width.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from mmreg_image import adjust

GEOMETRIC = ("shear_x", "shear_y", "translate_x", "translate_y", "rotate")
COLOR = ("brightness", "saturation", "contrast", "sharpness", "posterize", "solarize", "autocontrast", "equalize")
OPERATIONS = ("identity", *GEOMETRIC, *COLOR)
"""The operations of TrivialAugment's wide space."""

LEVELS = 31
"""How many strengths there are, from none to the strongest."""


def trivial_augment(pictures: Tensor, generator: torch.Generator | None) -> Tensor:
    """Apply to each picture one of `OPERATIONS` at one of `LEVELS` strengths, both drawn uniformly.

    The wide space of Müller and Hutter, "TrivialAugment: Tuning-free Yet State-of-the-Art Data Augmentation" (2021),
    with two differences: pictures are moved by up to 32 pixels but at most a third of their size, and what a
    geometric operation brings in from outside repeats the border, so that no background colour is presumed.

    Args:
        pictures: (B, C, H, W) floating point from 0 to 1.
        generator: where the draws come from, on the device of the pictures.

    Returns:
        (B, C, H, W), of the same dtype and range.
    """
    batch = (len(pictures),)
    operation = torch.randint(len(OPERATIONS), batch, generator=generator, device=pictures.device)
    level = torch.randint(LEVELS, batch, generator=generator, device=pictures.device)
    negative = torch.randint(2, batch, generator=generator, device=pictures.device)
    return apply_operations(pictures, operation, level, 1 - 2 * negative)


def apply_operations(pictures: Tensor, operation: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    """Apply one operation to each picture.

    Args:
        pictures: (B, C, H, W) floating point from 0 to 1.
        operation: (B,) int64, indices into `OPERATIONS`.
        level: (B,) int64 below `LEVELS`; ignored by identity, autocontrast and equalize.
        sign: (B,) 1 or -1, the direction; ignored also by posterize and solarize.
    """
    strength = level.to(pictures.dtype) / (LEVELS - 1)
    signed = sign * strength

    def chosen(name: str) -> Tensor:
        return operation == OPERATIONS.index(name)

    geometric = _warp(pictures, {name: torch.where(chosen(name), signed, 0) for name in GEOMETRIC})
    is_geometric = (operation >= 1) & (operation <= len(GEOMETRIC))
    result = torch.where(is_geometric[:, None, None, None], geometric, pictures)
    # Every operation is computed for every picture and then chosen from: choosing first would make the host wait for
    # the device, and small batches of small pictures cost little.
    factor = 1 + 0.99 * signed
    outcomes = {
        "brightness": adjust.brightness(pictures, factor),
        "saturation": adjust.saturation(pictures, factor),
        "contrast": adjust.contrast(pictures, factor),
        "sharpness": adjust.sharpness(pictures, factor),
        "posterize": adjust.posterize(pictures, 8 - (6 * strength).round()),
        "solarize": adjust.solarize(pictures, 1 - strength),
        "autocontrast": adjust.autocontrast(pictures),
        "equalize": adjust.equalize(pictures),
    }
    for name, outcome in outcomes.items():
        result = torch.where(chosen(name)[:, None, None, None], outcome, result)
    return result


def _warp(pictures: Tensor, amounts: dict[str, Tensor]) -> Tensor:
    """Shear, move and turn pictures about their middle; at most one of the amounts, (B,) from -1 to 1, is not zero."""
    height, width = pictures.shape[2:]
    angle = amounts["rotate"] * math.radians(135)
    cos, sin = torch.cos(angle), torch.sin(angle)
    ratio = height / width  # grid_sample measures each axis from -1 to 1
    rows = (
        torch.stack([cos, ratio * (sin + 0.99 * amounts["shear_x"]), _move(amounts["translate_x"], width)], -1),
        torch.stack([(0.99 * amounts["shear_y"] - sin) / ratio, cos, _move(amounts["translate_y"], height)], -1),
    )
    grid = affine_grid(torch.stack(rows, 1), list(pictures.shape), align_corners=False)
    return grid_sample(pictures, grid, padding_mode="border", align_corners=False).clamp(0, 1)


def _move(amount: Tensor, size: int) -> Tensor:
    return amount * min(32, size / 3) * 2 / size
