"""Whether a sound file ends before its own end, told by its header or its last bytes, without decoding it.

libsndfile takes what is there of most formats and says nothing. A format that is not told of here counts as whole.
"""

from __future__ import annotations

import io
import os
import struct
from pathlib import Path
from typing import IO

from mmreg_audio.mp3 import cut_frame

STREAMED = 0x7FFF_0000
"""From such a size on, or with none, a header was written before anybody knew the size."""
MOST_CHUNKS = 10_000
LARGEST_PAGE = 65_307
"""Bytes of an Ogg page, at most."""


def cut_short(source: Path | bytes) -> str:
    """What shows that the end of a sound is missing; empty if nothing does.

    Args:
        source: a file, or a file's bytes.
    """
    with source.open("rb") if isinstance(source, Path) else io.BytesIO(source) as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        start = file.read(12)
        try:
            if start[:4] in (b"RIFF", b"RIFX", b"RF64") and start[8:] == b"WAVE":
                return _told(_wave(file, ">" if start[:4] == b"RIFX" else "<"), size)
            if start[:4] == b"FORM" and start[8:] in (b"AIFF", b"AIFC"):
                return _told(_chunk(file, ">4sL", b"SSND", 12), size)
            if start[:4] == b"caff":
                return _told(_chunk(file, ">4sq", b"data", 8, even=False), size)
            if start[:4] in (b".snd", b"dns."):
                order = ">" if start[:4] == b".snd" else "<"
                return _told(struct.unpack(order + "LL", start[4:]), size)
            if start[:4] == b"OggS":
                return _ogg(file, size)
            if start[:4] == b"RIFF" and start[8:] == b"AVI ":
                return _told((8, *struct.unpack("<L", start[4:8])), size)
            if start[:4] == b"\x1aE\xdf\xa3":
                return _told(_segment(file), size)
            if start[:3] == b"ID3" or (len(start) > 1 and start[0] == 0xFF and start[1] & 0xE0 == 0xE0):
                return cut_frame(file, size)
        except struct.error:  # it ends within the header, of which libsndfile tells
            return ""
    return ""


def _told(samples: tuple[int, int] | None, size: int) -> str:
    """What to say of samples that begin at a place and have a size in bytes, in a file of some size."""
    if samples is None or not 0 < samples[1] < STREAMED or sum(samples) <= size:
        return ""
    there = max(0, size - samples[0])
    return f"its header promises {samples[1]:,} bytes of sound, and {there:,} are there"


def _chunk(file: IO[bytes], form: str, wanted: bytes, place: int, even: bool = True) -> tuple[int, int] | None:
    """Where the content of a chunk begins and its size; chunks follow each other from a place on."""
    head = struct.calcsize(form)
    for _ in range(MOST_CHUNKS):
        file.seek(place)
        name, size = struct.unpack(form, file.read(head))
        if name == wanted:
            return place + head, size
        place += head + max(size, 0) + (size % 2 if even else 0)
    return None


def _wave(file: IO[bytes], order: str) -> tuple[int, int] | None:
    samples = _chunk(file, f"{order}4sL", b"data", 12)
    if samples is None or samples[1] != 0xFFFF_FFFF:
        return samples
    file.seek(12)
    if file.read(4) != b"ds64":  # where RF64 has the sizes that 32 bits cannot hold
        return None
    file.seek(28)
    return samples[0], struct.unpack("<Q", file.read(8))[0]


def _segment(file: IO[bytes]) -> tuple[int, int] | None:
    """Where the content of a WebM or Matroska file begins and its size; a live recording tells none."""
    file.seek(4)
    header, width = _number(file.read(8))
    place = 4 + width + header
    file.seek(place)
    if file.read(4) != b"\x18S\x80g":
        return None
    size, width = _number(file.read(8))
    return place + 4 + width, 0 if size == (1 << 7 * width) - 1 else size


def _number(data: bytes) -> tuple[int, int]:
    """A number of variable width (RFC 8794), and its width in bytes."""
    width = 9 - data[0].bit_length() if data else 9
    if len(data) < width:
        raise struct.error
    return int.from_bytes(data[:width], "big") & ((1 << 7 * width) - 1), width


def _ogg(file: IO[bytes], size: int) -> str:
    """Whether the last page is whole, and is marked as the last of its stream."""
    file.seek(max(0, size - LARGEST_PAGE))
    tail = file.read()
    page = tail.rfind(b"OggS\0")
    if page < 0:  # more than a page of something else at the end
        return ""
    flags, segments = struct.unpack_from("<5xB20xB", tail, page)
    lengths = tail[page + 27 : page + 27 + segments]
    if len(lengths) < segments or page + 27 + segments + sum(lengths) > len(tail):
        return "its last page is incomplete"
    return "" if flags & 4 else "its last page is not marked as the end of the stream"
