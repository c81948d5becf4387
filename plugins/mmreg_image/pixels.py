"""Pixels as arrays: to eight bits, without alpha, to a size and to grey or RGB.

Axes: C channels, H W height and width.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from mmreg.errors import ValueLoadError

MAX_PIXELS = 100_000_000
"""The most pixels (height times width) that a picture may have; more are refused before anything is decoded.

Decoders take up to 9 bytes for each, and their values are converted a band at a time, so that one picture never takes
more than 2 GB.
"""
MAX_SIDE = 1_000_000
"""The greatest height or width: that of libpng."""
BAND = 1 << 22
"""About how many values are converted at a time."""

Resize = Literal["stretch", "crop", "pad"]
Interpolation = Literal["bilinear", "bicubic"]
Pixels = NDArray[np.uint8]


def check_size(height: int, width: int, most: int = MAX_PIXELS) -> None:
    """Refuse a picture by the size that its header or shape gives.

    Raises:
        ValueLoadError: it is empty, a side is longer than `MAX_SIDE`, or it has more pixels than `most`.
    """
    if height < 1 or width < 1:
        raise ValueLoadError(f"a picture of {width} x {height} pixels is empty")
    if height * width > most or max(height, width) > MAX_SIDE:
        raise ValueLoadError(
            f"a picture of {width} x {height} pixels is refused: at most {most:,} pixels are decoded, and {MAX_SIDE:,} "
            "in a row; make it smaller first"
        )


def channels_first(array: NDArray[Any]) -> NDArray[Any]:
    """An array of pixels as (C, H, W).

    Args:
        array: (H, W), (H, W, C), or (C, H, W) with C of 1, 3 or 4. Where the shape fits both, the last axis is taken
            for the channels.

    Raises:
        ValueLoadError: the shape is none of these, or a size is out of bounds.
    """
    if array.ndim == 2:
        array = array[None]
    elif array.ndim == 3 and array.shape[2] in (1, 3, 4):
        array = array.transpose(2, 0, 1)
    elif array.ndim != 3 or array.shape[0] not in (1, 3, 4):
        raise ValueLoadError(
            f"an array of shape {array.shape} is no picture: pass (H, W), or (H, W, C) or (C, H, W) with C of 1, 3 or 4"
        )
    check_size(array.shape[1], array.shape[2])
    return array


def by_bands(convert: Callable[[NDArray[Any]], Pixels], array: NDArray[Any]) -> Pixels:
    """What `convert` makes of (C, H, W), as (C', H, W), a band of rows at a time, so that its copies stay small."""
    channels, height, width = array.shape
    return joined_bands(lambda top, end: convert(array[:, top:end]), height, max(1, BAND // (channels * width)))


def joined_bands(band: Callable[[int, int], Pixels], height: int, rows: int) -> Pixels:
    """Pixels (C, H, W) of which `band` gives (C, end - top, W), so many rows at a time; one band as it is."""
    first = band(0, min(rows, height))
    if rows >= height:
        return first
    whole = np.empty((len(first), height, first.shape[2]), np.uint8)
    whole[:, :rows] = first
    for top in range(rows, height, rows):
        whole[:, top : top + rows] = band(top, min(top + rows, height))
    return whole


def eight_bits(array: NDArray[Any]) -> Pixels:
    """Pixel values from 0 to 255.

    Args:
        array: (C, H, W) in uint8; uint16 (its full range is scaled down, rounded); bool; floating point from 0 to 1;
            or other integers from 0 to 255.

    Raises:
        ValueLoadError: another dtype, or values out of that range.
    """
    return array if array.dtype == np.uint8 else by_bands(_eight_bits, array)


def _eight_bits(array: NDArray[Any]) -> Pixels:
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * np.uint8(255)
    if array.dtype == np.uint16:
        # 65535 = 255 * 257
        quotient, remainder = np.divmod(array, np.uint16(257))
        quotient += remainder > 128
        return quotient.astype(np.uint8)
    if array.dtype.kind == "f":
        with np.errstate(all="ignore"):  # what overflows is refused below
            scaled = np.rint(array.astype(np.float64 if array.dtype.itemsize > 4 else np.float32) * 255)
        allowed = "from 0 to 1 (divide by the largest possible value), or pass uint8"
    elif array.dtype.kind in "iu":
        scaled = array
        allowed = "from 0 to 255 (or from 0 to 65535 as uint16)"
    else:
        raise ValueLoadError(f"an array of dtype {array.dtype} is no picture: pass uint8, uint16, bool or floats")
    # Written so that NaN fails too.
    if not (scaled.min() >= 0 and scaled.max() <= 255):
        low, high = array.min(), array.max()
        raise ValueLoadError(f"pixels of dtype {array.dtype} are to be {allowed}, found {low:g} to {high:g}")
    result: Pixels = scaled.astype(np.uint8)
    return result


def without_alpha(pixels: Pixels) -> Pixels:
    """Grey or RGB pixels, (1 or 3, H, W), from (C, H, W) with C of 1 to 4: an alpha channel is laid over white."""
    return pixels if pixels.shape[0] in (1, 3) else by_bands(_over_white, pixels)


def _over_white(pixels: Pixels) -> Pixels:
    colour, alpha = pixels[:-1].astype(np.uint16), pixels[-1].astype(np.uint16)
    # (c a + 255 (255 - a)) / 255, rounded exactly, in 16 bits.
    blended = colour * alpha + 255 * (255 - alpha) + 128
    result: Pixels = ((blended + (blended >> 8)) >> 8).astype(np.uint8)
    return result


def fit(pixels: Pixels, height: int, width: int, how: Resize, interpolation: Interpolation = "bilinear") -> Pixels:
    """Resize (C, H, W) to (C, height, width), antialiased; pixels that have that size already stay as they are.

    Args:
        pixels: uint8.
        height: in pixels.
        width: in pixels.
        how: "stretch" ignores the proportions; "crop" keeps them and cuts the middle out; "pad" keeps them and adds
            black on both sides.
        interpolation: between pixels.
    """
    old_height, old_width = pixels.shape[1:]
    if how == "crop":
        # Cut before resizing: a long, thin picture would become huge the other way round.
        cut_height = min(old_height, max(1, round(old_width * height / width)))
        cut_width = min(old_width, max(1, round(old_height * width / height)))
        top, left = (old_height - cut_height) // 2, (old_width - cut_width) // 2
        return _resize(pixels[:, top : top + cut_height, left : left + cut_width], height, width, interpolation)
    if how == "pad":
        scale = min(height / old_height, width / old_width)
        inner_height = min(height, max(1, round(old_height * scale)))
        inner_width = min(width, max(1, round(old_width * scale)))
        top, left = (height - inner_height) // 2, (width - inner_width) // 2
        padded = np.zeros((pixels.shape[0], height, width), np.uint8)
        inner = _resize(pixels, inner_height, inner_width, interpolation)
        padded[:, top : top + inner_height, left : left + inner_width] = inner
        return padded
    return _resize(pixels, height, width, interpolation)


def with_channels(pixels: Pixels, channels: int) -> Pixels:
    """Grey or RGB pixels (1 or 3, H, W) as (channels, H, W); grey is the luma of ITU-R BT.601."""
    if pixels.shape[0] == channels:
        return pixels
    if channels == 3:
        return np.repeat(pixels, 3, axis=0)
    return by_bands(_luma, pixels)


def _luma(pixels: Pixels) -> Pixels:
    # Pillow's weights in 16 bits; they add up to one exactly, so that grey stays what it is.
    weights = np.array([19595, 38470, 7471], np.uint32)[:, None, None]
    luma = (pixels * weights).sum(0, keepdims=True, dtype=np.uint32) + 0x8000
    result: Pixels = (luma >> 16).astype(np.uint8)
    return result


def _resize(pixels: Pixels, height: int, width: int, interpolation: Interpolation) -> Pixels:
    if pixels.shape[1:] == (height, width):
        return np.ascontiguousarray(pixels)
    # Imported here, as the import takes more than a second and describing the modality does not need it.
    from torchvision.transforms.v2 import InterpolationMode, functional

    # A copy, since torch warns of arrays that it must not write to.
    values, mode = torch.from_numpy(np.array(pixels)), InterpolationMode(interpolation)
    resized: torch.Tensor = functional.resize(values, [height, width], mode, antialias=True)
    result: Pixels = resized.numpy()
    return result
