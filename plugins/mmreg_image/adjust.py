"""Changes of colour with a factor of its own for each picture of a batch.

Values are floating point from 0 to 1; axes: B batch, C channels (1 or 3), H W height and width. Each function gives
what torchvision's function of the same name gives for one picture and its factor.
"""

from __future__ import annotations

import torch
from torch import Tensor


def grayscale(pictures: Tensor) -> Tensor:
    """Luma (ITU-R BT.601) of (B, C, H, W) as (B, 1, H, W)."""
    if pictures.shape[1] == 1:
        return pictures
    red, green, blue = pictures.unbind(1)
    return (0.2989 * red + 0.587 * green + 0.114 * blue).unsqueeze(1)


def blend(pictures: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    """The line from another picture (factor 0) through the picture (1) and beyond, cut to 0..1; factor is (B,)."""
    factor = factor[:, None, None, None]
    return (factor * pictures + (1 - factor) * other).clamp(0, 1)


def brightness(pictures: Tensor, factor: Tensor) -> Tensor:
    """Blend with black."""
    return blend(pictures, torch.zeros_like(pictures), factor)


def contrast(pictures: Tensor, factor: Tensor) -> Tensor:
    """Blend with the picture's mean luma."""
    return blend(pictures, grayscale(pictures).mean((1, 2, 3), keepdim=True), factor)


def saturation(pictures: Tensor, factor: Tensor) -> Tensor:
    """Blend with grey; a grey picture stays as it is."""
    return pictures if pictures.shape[1] == 1 else blend(pictures, grayscale(pictures), factor)


def sharpness(pictures: Tensor, factor: Tensor) -> Tensor:
    """Blend with a picture smoothed by 3 x 3 weights of 1, 5 in the middle; the border stays as it is."""
    if min(pictures.shape[2:]) < 3:
        return pictures
    neighbours = torch.nn.functional.avg_pool2d(pictures, 3, stride=1) * 9
    smooth = pictures.clone()
    smooth[:, :, 1:-1, 1:-1] = (neighbours + 4 * pictures[:, :, 1:-1, 1:-1]) / 13
    return blend(pictures, smooth, factor)


def posterize(pictures: Tensor, bits: Tensor) -> Tensor:
    """Keep only the highest bits, (B,) from 1 to 8, of the eight bits of each value."""
    step = (2 ** (8 - bits))[:, None, None, None]
    return (pictures * 255).round().div(step, rounding_mode="floor") * step / 255


def solarize(pictures: Tensor, threshold: Tensor) -> Tensor:
    """Invert the values that are not below a threshold, (B,) from 0 to 1."""
    return torch.where(pictures >= threshold[:, None, None, None], 1 - pictures, pictures)


def autocontrast(pictures: Tensor) -> Tensor:
    """Stretch each channel to the whole range; one of a single value stays as it is."""
    low, high = pictures.amin((2, 3), keepdim=True), pictures.amax((2, 3), keepdim=True)
    flat = high == low
    stretched = (pictures - low) / torch.where(flat, 1, high - low)
    return torch.where(flat, pictures, stretched)


def equalize(pictures: Tensor) -> Tensor:
    """Flatten each channel's histogram of 256 levels, as Pillow does."""
    values = (pictures * 255).round().flatten(2).flatten(0, 1).long()
    # Sorting instead of counting, as it is deterministic on every device.
    ordered = values.sort(1).values
    levels = torch.arange(256, device=values.device).repeat(len(values), 1)
    below = torch.searchsorted(ordered, levels)
    not_highest = torch.searchsorted(ordered, ordered[:, -1:].contiguous())
    step = not_highest.div(255, rounding_mode="floor")
    table = ((below + step // 2).div(step.clamp(min=1), rounding_mode="floor")).clamp(max=255)
    result = torch.where(step == 0, values, table.gather(1, values))
    return (result / 255).view_as(pictures).to(pictures.dtype)
