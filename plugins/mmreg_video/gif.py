"""Animated GIFs, decoded by Pillow frame by frame; how long each frame is shown is read here, without decoding."""

from __future__ import annotations

import io
import itertools
import struct
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from mmreg.errors import ValueLoadError
from mmreg_video.container import MAX_PIXELS
from mmreg_video.timeline import Listed

MAX_BYTES = 1 << 29
"""The largest GIF that is read, in bytes."""
MOST_FRAMES = 100_000
MOST_PAINTED = 20_000_000_000
"""Pixels of all frames together: each is laid over a whole screen, however small it is."""
USUAL_DELAY = 10
"""Hundredths of a second, where a frame has none: as browsers show it."""


def gif_frames(data: bytes, keep: bool = False) -> Listed:
    """The frames of a GIF.

    Args:
        data: the file.
        keep: whether a file that is cut short is taken up to its last whole frame.

    Raises:
        ValueLoadError: it is damaged, cut short or too large.
    """
    pictures, delays, (width, height), whole = _blocks(data)
    if width * height > MAX_PIXELS:
        raise ValueLoadError(f"frames of {width} x {height} pixels are refused: at most {MAX_PIXELS:,} are decoded")
    if not whole and not keep:
        raise ValueLoadError("cut short: a GIF without its end; truncated: keep takes the frames that are there")
    if not delays:
        raise ValueLoadError("a GIF without a single whole frame")
    if len(delays) > MOST_FRAMES:
        raise ValueLoadError(f"a GIF of {len(delays):,} frames is refused: at most {MOST_FRAMES:,} are read")
    if len(delays) * width * height > MOST_PAINTED:
        told = f"{len(delays):,} frames of {width} x {height} pixels"
        raise ValueLoadError(f"a GIF of {told} is refused: at most {MOST_PAINTED:,} pixels are decoded")
    starts = [Fraction(total, 100) for total in itertools.accumulate(delays, initial=0)]
    return Listed(starts, _Pictures(pictures))


class _Pictures:
    """Gives the frames of a GIF by ascending numbers, each laid over those before as it says."""

    def __init__(self, data: bytes) -> None:
        from PIL import Image

        try:
            self._image = Image.open(io.BytesIO(data), formats=["GIF"])
        except Exception as error:  # whatever broken data makes happen in Pillow
            raise ValueLoadError(f"a damaged GIF (Pillow: {error})") from error

    def __call__(self, number: int) -> NDArray[np.uint8]:
        try:
            self._image.seek(number)
            return np.asarray(self._image.convert("RGBA"))
        except Exception as error:
            raise ValueLoadError(f"a damaged GIF: frame {number + 1} cannot be decoded (Pillow: {error})") from error


def _blocks(data: bytes) -> tuple[bytes, list[int], tuple[int, int], bool]:
    """A GIF without its comments, the delay of each whole frame, the size of all, and whether its end is there.

    The size is that of the screen, or of what reaches beyond it: Pillow makes room for both.

    Pillow takes minutes for comments of megabytes.
    """
    kept, delays, delay = bytearray(), [], 0
    width, height = struct.unpack("<HH", data[6:10]) if len(data) > 12 else (0, 0)
    try:
        place = 13 + _table(data[10])
        kept += data[:place]
        while data[place] != 0x3B:
            if data[place] == 0x21:
                end = _end(data, place + 2)
                if data[place + 1] == 0xF9:
                    (delay,) = struct.unpack("<H", data[place + 4 : place + 6])
                if data[place + 1] != 0xFE:
                    kept += data[place:end]
            elif data[place] == 0x2C:
                left, top, wide, high = struct.unpack("<HHHH", data[place + 1 : place + 9])
                width, height = max(width, left + wide), max(height, top + high)
                end = _end(data, place + 10 + _table(data[place + 9]) + 1)
                kept += data[place:end]
                delays.append(delay or USUAL_DELAY)
                delay = 0
            else:
                raise ValueLoadError("a damaged GIF: neither a frame nor an end follows a frame")
            place = end
    except (IndexError, struct.error):
        return bytes(kept) + b";", delays, (width, height), False
    return bytes(kept) + b";", delays, (width, height), True


def _table(flags: int) -> int:
    """The size in bytes of the table of colours that these flags announce."""
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0


def _end(data: bytes, place: int) -> int:
    """Where a row of blocks ends."""
    while length := data[place]:
        place += length + 1
    return place + 1
