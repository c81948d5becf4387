"""Turns a path, bytes or an array into pixels: PNG, JPEG, GIF and WebP with torchvision, the rest with Pillow.

The content decides, not the name. Sizes are read from the headers here, so that a picture that would fill the memory
is refused before a decoder sees it.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mmreg.errors import ValueLoadError
from mmreg.files import irregular
from mmreg_image.formats import picture_format
from mmreg_image.jpeg import read_jpeg
from mmreg_image.pillow import decode_with_pillow
from mmreg_image.pixels import Pixels, channels_first, check_size, eight_bits, without_alpha
from mmreg_image.png import read_png

MAX_BYTES = 2**29
"""The largest file that is read, in bytes."""


def read_pixels(value: Any) -> Pixels:
    """One picture as grey or RGB pixels.

    Args:
        value: a path, a file's bytes, or an array as `channels_first` and `eight_bits` take it.

    Returns:
        (1 or 3, H, W) uint8, upright, an alpha channel laid over white.

    Raises:
        ValueLoadError: it is missing, empty, damaged, too large or no picture; the message says which.
    """
    if isinstance(value, np.ndarray):
        return without_alpha(eight_bits(channels_first(value)))
    if isinstance(value, Path):
        value = _read_file(value)
    if not isinstance(value, bytes | bytearray | memoryview):
        raise ValueLoadError(f"a picture is a path, bytes or a NumPy array, found {type(value).__name__}")
    data = bytes(value)
    if not data:
        raise ValueLoadError("empty: 0 bytes")
    name = picture_format(data)
    decode = {"PNG": _decode_png, "JPEG": _decode_jpeg, "GIF": _decode_gif, "WebP": _decode_webp}.get(name)
    try:
        pixels = decode(data) if decode else decode_with_pillow(data)
    except (struct.error, IndexError) as error:
        raise ValueLoadError(f"a damaged or truncated {name} picture: it ends too early") from error
    except RuntimeError as error:
        reason = str(error).partition("\n")[0]
        raise ValueLoadError(f"a damaged or truncated {name} picture (torchvision: {reason})") from error
    return without_alpha(pixels)


def _read_file(path: Path) -> bytes:
    try:
        if what := irregular(path):
            raise ValueLoadError(f"{what}, not a file")
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise ValueLoadError(f"a file of {size:,} bytes is refused: at most {MAX_BYTES:,} are read")
        return path.read_bytes()
    except FileNotFoundError as error:
        raise ValueLoadError("no such file") from error
    except (OSError, ValueError) as error:  # ValueError: a name with a zero byte, or an error from above
        if isinstance(error, ValueLoadError):
            raise
        raise ValueLoadError(f"the file cannot be read: {getattr(error, 'strerror', None) or error}") from error


def _torchvision(data: bytes | bytearray, mode: str = "UNCHANGED") -> NDArray[Any]:
    # Imported here, as the import takes more than a second and describing the modality does not need it.
    from torchvision.io import decode_image

    # A bytearray, since torch warns of memory that it must not write to.
    encoded = torch.frombuffer(data if isinstance(data, bytearray) else bytearray(data), dtype=torch.uint8)
    decoded: torch.Tensor = decode_image(encoded, mode, apply_exif_orientation=True)
    result: NDArray[Any] = decoded.numpy()
    return result


def _decode_png(data: bytes) -> Pixels:
    png = read_png(data)
    depth, transparency = png.depth, png.transparency
    if png.colour_type == 3:
        # Asked for alpha without a tRNS chunk, torchvision gives an alpha channel of arbitrary content.
        return eight_bits(_torchvision(png.data, "RGB" if transparency is None else "RGBA"))
    pixels = _torchvision(png.data)
    if png.colour_type in (0, 2) and transparency is not None:
        # One value, or colour, that counts as transparent, in the file's own depth; torchvision ignores it.
        key = np.array(struct.unpack_from(">H" if png.colour_type == 0 else ">HHH", transparency), np.uint32)
        key = (key & (2**depth - 1)) * (255 // (2**depth - 1) if depth < 8 else 1)
        opaque = (pixels != key[:, None, None]).any(0, keepdims=True)
        return np.concatenate([eight_bits(pixels), eight_bits(opaque)])
    return eight_bits(pixels)


def _decode_jpeg(data: bytes) -> Pixels:
    return eight_bits(_torchvision(data, "UNCHANGED" if read_jpeg(data) == 1 else "RGB"))


def _decode_gif(data: bytes) -> Pixels:
    """The first frame: torchvision would decode all, however many they are, and knows no transparency."""
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    check_size(height, width)
    screen = position = 13 + _gif_table(flags)
    control = b""
    while data[position] == 0x21:  # extensions, of which a comment of megabytes would keep Pillow busy for minutes
        end = _gif_blocks_end(data, position + 2)
        if data[position + 1] == 0xF9:
            control = data[position:end]
        position = end
    if data[position] != 0x2C:
        raise ValueLoadError("a damaged GIF picture: no frame")
    left, top, frame_width, frame_height, flags = struct.unpack_from("<HHHHB", data, position + 1)
    check_size(top + frame_height, left + frame_width)
    end = _gif_blocks_end(data, position + 10 + _gif_table(flags) + 1)
    alone = data[:screen] + control + data[position:end] + b";"
    if (control[3:4] and control[3] & 1) or (left, top, frame_width, frame_height) != (0, 0, width, height):
        return decode_with_pillow(alone)
    return eight_bits(_torchvision(alone))


def _gif_table(flags: int) -> int:
    """The size in bytes of the colour table that these flags announce."""
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0


def _gif_blocks_end(data: bytes, position: int) -> int:
    while length := data[position]:
        position += length + 1
    return position + 1


def _decode_webp(data: bytes) -> Pixels:
    kind = data[12:16]
    flags = 0
    if kind == b"VP8X":
        flags = data[20]
        width = 1 + int.from_bytes(data[24:27], "little")
        height = 1 + int.from_bytes(data[27:30], "little")
    elif kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        width, height = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    else:
        width, height = (size & 0x3FFF for size in struct.unpack_from("<HH", data, 26))
    check_size(height, width)
    # torchvision reads neither animations (flag 2) nor the orientation in EXIF data (flag 8).
    return decode_with_pillow(data) if flags & 0b1010 else eight_bits(_torchvision(data))
