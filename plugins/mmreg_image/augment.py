"""Random changes of training pictures: a whole batch at once, with draws of its own for each picture.

Pictures are (B, C, H, W), floating point from 0 to 1, and stay so. Every draw comes from the given generator, which
belongs to the pictures' device; nothing is copied to or from the device.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import torch
from torch import Tensor

from mmreg_image.adjust import brightness, contrast, saturation
from mmreg_image.trivial_augment import trivial_augment

Augmentation = Literal["none", "flip", "crop", "color", "trivial"]


def random_flip(pictures: Tensor, generator: torch.Generator | None) -> Tensor:
    """Mirror half of the pictures left to right."""
    mirrored = torch.rand(len(pictures), generator=generator, device=pictures.device) < 0.5
    return torch.where(mirrored[:, None, None, None], pictures.flip(-1), pictures)


def random_crop(pictures: Tensor, generator: torch.Generator | None) -> Tensor:
    """Shift each picture by up to an eighth of its height and width, its border repeated outwards.

    That is the usual random crop of a padded picture (4 pixels of 32), without black edges.
    """
    rows, columns = (_shifted(size, len(pictures), pictures.device, generator) for size in pictures.shape[2:])
    batch = torch.arange(len(pictures), device=pictures.device)[:, None, None]
    # Indexed as (B, H, W, C): the channels are not indexed, so they come last.
    return pictures.movedim(1, -1)[batch, rows[:, :, None], columns[:, None, :]].movedim(-1, 1).contiguous()


def random_color(pictures: Tensor, generator: torch.Generator | None) -> Tensor:
    """Change brightness, contrast and saturation, in this order, each by a factor from 0.6 to 1.4."""
    for adjust in (brightness, contrast, saturation):
        draws = torch.rand(len(pictures), generator=generator, device=pictures.device)
        pictures = adjust(pictures, 0.6 + 0.8 * draws)
    return pictures


def _shifted(size: int, batch: int, device: torch.device, generator: torch.Generator | None) -> Tensor:
    """Positions along an axis, (B, size), shifted for each picture and kept within the axis."""
    largest = max(1, size // 8) if size > 1 else 0
    shift = torch.randint(-largest, largest + 1, (batch, 1), generator=generator, device=device)
    return (torch.arange(size, device=device) + shift).clamp(0, size - 1)


AUGMENTATIONS: Mapping[str, Callable[[Tensor, torch.Generator | None], Tensor]] = {
    "flip": random_flip,
    "crop": random_crop,
    "color": random_color,
    "trivial": trivial_augment,
}
"""Each augmentation by its name."""
