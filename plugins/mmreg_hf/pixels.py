"""What a model's image preprocessor means in the image modality's options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmreg.errors import OptionError

USUAL_SIZE = 224

INTERPOLATIONS = {2: "bilinear", 3: "bicubic"}
"""Pillow's numbers of the methods that the modality has."""


def pixels(processor: Mapping[str, Any], config: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Options of the image modality: those that a model needs, and those that suit it.

    Args:
        processor: the preprocessor's settings.
        config: the model's.

    Raises:
        OptionError: its pictures do not become squares or boxes of one size.
    """
    channels = config.get("num_channels", 3)
    return (
        {"channels": channels, "normalize": _normalize(processor, channels)},
        {"size": _size(processor, config), **_resize(processor)},
    )


def _normalize(processor: Mapping[str, Any], channels: int) -> Any:
    """Mean and deviation on the scale from 0 to 1; a scale of its own is part of them."""
    scale = 255 * float(processor.get("rescale_factor", 1 / 255)) if processor.get("do_rescale", True) else 255.0
    shift = 1.0 if processor.get("offset") and processor.get("do_rescale", True) else 0.0
    mean, std = [0.0] * channels, [1.0] * channels
    if processor.get("do_normalize", True):
        mean, std = (_numbers(processor, key, channels) for key in ("image_mean", "image_std"))
    if abs(scale - 1) < 1e-9 and not shift and mean == [0.0] * channels and std == [1.0] * channels:
        return "none"
    scale = 1.0 if abs(scale - 1) < 1e-9 else scale
    return {"mean": [(each + shift) / scale for each in mean], "std": [each / scale for each in std]}


def _numbers(processor: Mapping[str, Any], key: str, channels: int) -> list[float]:
    given = processor.get(key, 0.5)
    numbers = [given] * channels if isinstance(given, int | float) else given
    if not (
        isinstance(numbers, list) and len(numbers) == channels and all(isinstance(n, int | float) for n in numbers)
    ):
        raise OptionError(f"model: {key} of its preprocessor is {given!r}, where {channels} numbers are needed")
    return [float(number) for number in numbers]


def _size(processor: Mapping[str, Any], config: Mapping[str, Any]) -> int | list[int]:
    """What a picture's size is in the end."""
    key = "crop_size" if processor.get("do_center_crop") else "size"
    given = processor.get(key, processor.get("size", config.get("image_size", USUAL_SIZE)))
    if isinstance(given, Mapping):
        given = [given["height"], given["width"]] if "height" in given else given.get("shortest_edge", USUAL_SIZE)
    if isinstance(given, list):
        return given[0] if len(given) == 2 and given[0] == given[1] else given
    return int(given)


def _resize(processor: Mapping[str, Any]) -> dict[str, Any]:
    """How a picture comes to its size; an interpolation that the modality does not have is left out."""
    size = processor.get("size")
    shortest = isinstance(size, Mapping) and "shortest_edge" in size
    cuts = bool(processor.get("do_center_crop")) or shortest
    found: dict[str, Any] = {"resize": "crop" if cuts else "stretch"}
    if processor.get("resample") in INTERPOLATIONS:
        found["interpolation"] = INTERPOLATIONS[processor["resample"]]
    return found
