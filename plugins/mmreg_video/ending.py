"""Whether a video file ends before its own end, told by its structure without decoding it.

Decoders take what is there of most formats and say nothing. A format that is not told of here counts as whole.
"""

from __future__ import annotations

import os
import struct
from typing import IO

STREAMED = 0x7FFF_0000
"""From such a size on a header was written before anybody knew the size."""
MOST_BOXES = 1_000_000
"""Of an MP4 file; fragments come some two to a second."""
NO_INDEX = "its index (moov) is missing, without which nothing can be decoded"


def cut_short(file: IO[bytes]) -> str:
    """What shows that the end of a video is missing; empty if nothing does. GIFs are read elsewhere.

    Args:
        file: open; it is left at its beginning.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    try:
        start = file.read(12)
        if start[4:8] in (b"ftyp", b"moov", b"mdat", b"free", b"wide", b"skip"):
            return _boxes(file, size)
        if start[:4] == b"\x1aE\xdf\xa3":
            return _segment(file, size)
        if start[:4] == b"RIFF" and start[8:] == b"AVI ":
            (length,) = struct.unpack("<L", start[4:8])
            return _promised(8 + length, size) if length < STREAMED else ""
    except (struct.error, IndexError):
        return "it ends within its header"
    finally:
        file.seek(0)
    return ""


def _promised(end: int, size: int) -> str:
    return f"its header promises {end:,} bytes, and {size:,} are there" if end > size else ""


def _boxes(file: IO[bytes], size: int) -> str:
    """The boxes of an MP4 or MOV file: the last one is whole, and there is an index (moov)."""
    place, has_index = 0, False
    for _ in range(MOST_BOXES):
        if place + 8 > size:
            break
        file.seek(place)
        length, name = struct.unpack(">L4s", file.read(8))
        if length == 1:
            (length,) = struct.unpack(">Q", file.read(8))
        if length < 8 or not name.isalnum():  # 0 is up to the end of the file; else it is no box, but what was appended
            return "" if has_index or name == b"moov" else NO_INDEX
        if place + length > size:
            return _promised(place + length, size) if has_index else NO_INDEX
        has_index |= name == b"moov"
        place += length
    return "" if has_index else NO_INDEX


def _segment(file: IO[bytes], size: int) -> str:
    """The one segment of a WebM or Matroska file; a live recording has no size."""
    place = 4
    for _ in range(64):  # the header, then perhaps some void
        file.seek(place)
        length, width = _number(file.read(8))
        place += width + length
        file.seek(place)
        name = file.read(4)
        if name == b"\x18S\x80g":
            length, width = _number(file.read(8))
            unknown = length == (1 << 7 * width) - 1
            return "" if unknown else _promised(place + 4 + width + length, size)
        place += 1  # of void, whose name has one byte
        if name[:1] != b"\xec":
            break
    return "it ends within its header" if place >= size else ""


def _number(data: bytes) -> tuple[int, int]:
    """A number of variable width (RFC 8794), and its width in bytes."""
    width = 9 - data[0].bit_length()
    if width > 8 or len(data) < width:
        raise IndexError
    return int.from_bytes(data[:width], "big") & ((1 << 7 * width) - 1), width
