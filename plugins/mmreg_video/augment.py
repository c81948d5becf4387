"""Random changes of training videos: the same to every frame of a video, drawn for each video of a batch.

Videos are (B, T, C, H, W) of any dtype; every draw comes from the given generator, which is on their device.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import torch
from torch import Tensor

Augmentation = Literal["none", "flip", "crop"]


def random_flip(videos: Tensor, generator: torch.Generator | None) -> Tensor:
    """Mirror half of the videos left to right."""
    mirrored = torch.rand(len(videos), generator=generator, device=videos.device) < 0.5
    return torch.where(mirrored[:, None, None, None, None], videos.flip(-1), videos)


def random_crop(videos: Tensor, generator: torch.Generator | None) -> Tensor:
    """Shift each video by up to an eighth of its height and width, its border repeated outwards, as pictures are."""
    rows, columns = (_shifted(size, len(videos), videos.device, generator) for size in videos.shape[3:])
    batch = torch.arange(len(videos), device=videos.device)[:, None, None]
    # Indexed as (B, H, W, T, C): frames and channels are not indexed, so they come last.
    moved = videos.permute(0, 3, 4, 1, 2)[batch, rows[:, :, None], columns[:, None, :]]
    return moved.permute(0, 3, 4, 1, 2).contiguous()


def _shifted(size: int, batch: int, device: torch.device, generator: torch.Generator | None) -> Tensor:
    """Positions along an axis, (B, size), shifted for each video and kept within the axis."""
    largest = max(1, size // 8) if size > 1 else 0
    shift = torch.randint(-largest, largest + 1, (batch, 1), generator=generator, device=device)
    return (torch.arange(size, device=device) + shift).clamp(0, size - 1)


AUGMENTATIONS: Mapping[str, Callable[[Tensor, torch.Generator | None], Tensor]] = {
    "flip": random_flip,
    "crop": random_crop,
}
"""Each augmentation by its name."""
