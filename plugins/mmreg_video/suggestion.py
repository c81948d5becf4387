"""What `mmreg init` proposes for a column of videos: found out of a few of them."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from mmreg.errors import ValueLoadError
from mmreg_video.reading import opened

LOOKED_AT = 10
"""Videos whose first frame is decoded."""
LARGEST = 112
"""Pixels: the size at which most networks for videos were trained."""


def suggested(
    values: Sequence[Any], endings: Collection[str], pictures: Collection[str]
) -> Mapping[str, tuple[Any, str]] | None:
    """Options for a column of videos, GIFs that move, or folders of pictures; None for anything else.

    Args:
        values: of the column, those that are there.
        endings: of files that are videos.
        pictures: of files that are pictures.
    """
    likely = [value for value in values if _may_be(value, endings)]
    if not values or len(likely) < 0.8 * len(values):
        return None
    sizes, moving = [], 0
    for value in likely[:LOOKED_AT]:
        with (
            contextlib.suppress(ValueLoadError),
            opened(value, pictures=pictures, fps=Fraction(1), truncated="keep") as video,
        ):
            frames = video.each()
            size = _size(next(frames))
            sizes.append(size)
            moving += not _is_gif(value) or next(frames, None) is not None
    if 2 * moving <= len(sizes) or not sizes:
        return None
    side = int(np.median(sizes))
    size = min(side, LARGEST)
    size -= size % 4 if size > 32 else 0
    return {"size": (size, f"frames of about {side} pixels")}


def _may_be(value: Any, endings: Collection[str]) -> bool:
    if isinstance(value, bytes):
        return _is_gif(value) or value[4:8] == b"ftyp" or value[:4] == b"\x1aE\xdf\xa3" or value[8:12] == b"AVI "
    return isinstance(value, Path) and (value.suffix.lower() in endings or _is_gif(value) or value.is_dir())


def _is_gif(value: Path | bytes) -> bool:
    return value[:4] == b"GIF8" if isinstance(value, bytes) else value.suffix.lower() == ".gif"


def _size(frame: Any) -> int:
    """The longer side of a frame."""
    if isinstance(frame, Path):
        from PIL import Image

        try:
            with Image.open(frame) as image:
                return max(image.size)
        except Exception as error:  # whatever broken data makes happen in Pillow
            raise ValueLoadError("not a picture") from error
    height, width = frame.shape[:2]
    return max(int(height), int(width))
