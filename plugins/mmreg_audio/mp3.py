"""The frames of an MP3 file, by their headers alone."""

from __future__ import annotations

from typing import IO

FRAME_SAMPLES = 1152
"""The most samples in a frame."""

_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
"""Sampling rates by version: MPEG 1, 2 and 2.5."""
_KILOBITS = {
    True: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    False: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
"""Bit rates of layer III by whether it is MPEG 1."""


def cut_frame(file: IO[bytes], size: int) -> str:
    """Whether a file ends within its last frame; what follows the frames, such as tags, is legal.

    Args:
        file: where it is read from.
        size: of the file, in bytes.

    Returns:
        What to say of it; empty if it does not, or has no frames of layer III.
    """
    place = _after_tag(file)
    while place + 4 <= size:
        file.seek(place)
        length = frame_length(file.read(4))
        if not length:
            return ""
        place += length
    return "its last frame is incomplete" if place > size else ""


def frame_length(header: bytes) -> int:
    """The bytes of the frame of layer III that has this header of 4 bytes; 0 if it is none."""
    first, version, layer = header[0] << 3 | header[1] >> 5, header[1] >> 3 & 3, header[1] >> 1 & 3
    kilobits, rate, padding = header[2] >> 4, header[2] >> 2 & 3, header[2] >> 1 & 1
    if first != 0x7FF or version == 1 or layer != 1 or kilobits in (0, 15) or rate == 3:
        return 0
    slots = 144_000 if version == 3 else 72_000
    return slots * _KILOBITS[version == 3][kilobits] // _RATES[version][rate] + padding


def _after_tag(file: IO[bytes]) -> int:
    """Where the frames begin, behind an ID3 tag with which a file may begin."""
    file.seek(0)
    head = file.read(10)
    if head[:3] != b"ID3" or len(head) < 10:
        return 0
    footer = 10 if head[5] & 0x10 else 0
    return 10 + footer + sum((byte & 0x7F) << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=True))
