"""Decodes what torchvision does not, or not rightly, with Pillow."""

from __future__ import annotations

import contextlib
import io
import threading
import warnings
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from mmreg.errors import ValueLoadError
from mmreg_image.formats import describe
from mmreg_image.pixels import BAND, MAX_PIXELS, Pixels, check_size, eight_bits, joined_bands
from mmreg_image.tiff import check_tiff

# Ghostscript would be run for EPS; IPTC and BLP have a JPEG inside, of which nobody counts the scans; the others are
# read only with a handler that nobody installs.
EXCLUDED = frozenset({"EPS", "IPTC", "BLP", "WMF", "MPEG", "BUFR", "GRIB", "HDF5"})
SAVE_ANEW = "save it with 8 or 16 bits a channel"

SLOW_PIXELS = 10_000_000
"""The most pixels that are decoded by a decoder in Python, which takes up to a microsecond for each."""
MOST: Mapping[str, int] = {"JPEG2000": MAX_PIXELS // 2}
"""The most pixels in a format whose decoder takes more than 20 bytes for each."""

# Filters of warnings belong to the whole process, so only one thread at a time may change them.
_LOCK = threading.Lock()


def decode_with_pillow(data: bytes) -> Pixels:
    """The first picture in some bytes, its EXIF orientation applied, as (C, H, W) with C of 1 to 4.

    Raises:
        ValueLoadError: Pillow cannot read it, or it is too large.
    """
    check_tiff(data)
    with _LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(io.BytesIO(data), formats=_formats()) as image:
                width, height = image.size
                slow = any(tile.codec_name in Image.DECODERS for tile in getattr(image, "tile", ()))
                check_size(height, width, SLOW_PIXELS if slow else MOST.get(image.format or "", MAX_PIXELS))
                ImageOps.exif_transpose(image, in_place=True)
                width, height = image.size
                check_size(height, width)  # of what is inside, as in icons
                return _pixels(image)
        except ValueLoadError:
            raise
        except Image.DecompressionBombError as error:
            raise ValueLoadError(f"a picture that is refused for its size ({error})") from error
        except Exception as error:  # Pillow's readers raise whatever broken data makes happen in them.
            if what := describe(data):
                raise ValueLoadError(f"not a picture but {what}") from error
            if isinstance(error, UnidentifiedImageError):
                raise ValueLoadError(
                    f"not a picture in any known format ({len(data):,} bytes that begin {data[:8].hex(' ')})"
                ) from error
            raise ValueLoadError(f"a damaged, truncated or unsupported picture (Pillow: {error})") from error


def is_animated(path: Path) -> bool:
    """Whether a GIF has more than one picture."""
    with _LOCK, warnings.catch_warnings(), contextlib.suppress(Exception):  # see above
        warnings.simplefilter("ignore")
        with Image.open(path, formats=["GIF"]) as image:
            return bool(getattr(image, "is_animated", False))
    return False


@cache
def _formats() -> list[str]:
    Image.init()
    return [name for name in Image.ID if name not in EXCLUDED]


def _pixels(image: Image.Image) -> Pixels:
    """The picture's channels (C, H, W), converted a band of rows at a time: Pillow's own conversions copy the whole."""
    width, height = image.size

    def band(top: int, end: int) -> Pixels:
        return _channels(image if end - top == height else image.crop((0, top, width, end)))

    return joined_bands(band, height, max(1, BAND // width))


def _channels(image: Image.Image) -> Pixels:
    if image.mode == "LA":
        pass
    elif image.has_transparency_data:
        image = image.convert("RGBA")
    elif image.mode == "1":
        image = image.convert("L")
    elif image.mode not in ("L", "RGB", "I", "F") and not image.mode.startswith("I;16"):
        image = image.convert("RGB")
    array = np.asarray(image)
    if image.mode.startswith("I"):
        if array.min() < 0 or array.max() > 65535:
            raise ValueLoadError(
                f"pixels of 32 bits are to be from 0 to 65535, found {array.min()} to {array.max()}; {SAVE_ANEW}"
            )
        array = array.astype(np.uint16)
    try:
        return eight_bits(array[None] if array.ndim == 2 else array.transpose(2, 0, 1))
    except ValueLoadError as error:  # which speaks of arrays; other pixels than floats all fit
        raise ValueLoadError(
            f"pixels in floating point are to be from 0 to 1, found {array.min():g} to {array.max():g}; {SAVE_ANEW}"
        ) from error
