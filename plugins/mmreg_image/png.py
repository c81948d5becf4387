"""What a PNG file is made of: its header, the chunks that a decoder needs, and whether they are what they promise.

Everything else is left out before libpng sees it: a megabyte of compressed comments keeps it busy for seconds.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

from mmreg.errors import ValueLoadError
from mmreg_image.pixels import check_size

NEEDED = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
ORIENTATION = b"eXIf"
SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""The samples of a pixel by colour type."""
QUICK = 1 << 21
"""Up to so many bytes of compressed pixels are inflated within seconds, whatever is in them.

For more, the check takes as long as the decoder.
"""
PIECE = 1 << 16


@dataclass(frozen=True)
class Png:
    """A PNG file whose parts are whole.

    Attributes:
        data: the file, less the chunks that no pixel depends on.
        depth: bits a sample.
        colour_type: 0 grey, 2 RGB, 3 palette; 4 and 6 are grey and RGB with alpha.
        transparency: the content of its tRNS chunk; None without one.
    """

    data: bytearray
    depth: int
    colour_type: int
    transparency: bytes | None


def read_png(data: bytes) -> Png:
    """Check a file's size, its checksums (libpng prints when one is wrong) and how much its pixels inflate to.

    Raises:
        ValueLoadError: it is too large or damaged.
        struct.error: it ends too early.
    """
    width, height, depth, colour_type = struct.unpack_from(">IIBB", data, 16)
    check_size(height, width)
    view = memoryview(data)
    kept, transparency, pixels = bytearray(data[:8]), None, []
    position, kind = 8, b""
    while kind != b"IEND":
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + 8 + length
        (checksum,) = struct.unpack_from(">I", data, end)
        whole = kind in (*NEEDED, ORIENTATION) and zlib.crc32(view[position + 4 : end]) == checksum
        if kind in NEEDED and not whole:
            raise ValueLoadError(f"a damaged PNG picture: the checksum of its {kind.decode()} chunk is wrong")
        if kind == b"tRNS":
            transparency = data[position + 8 : end]
        elif kind == b"IDAT":
            pixels.append(view[position + 8 : end])
        if whole:
            kept += view[position : end + 4]
        position = end + 4
    row = 1 + width * SAMPLES.get(colour_type, 4) * depth // 8
    # Twice the size leaves room for the rows of interlaced pictures, which are more and shorter.
    _check_inflated(pixels, 2 * height * row + PIECE)
    return Png(kept, depth, colour_type, transparency)


def _check_inflated(pieces: list[memoryview], most: int) -> None:
    """Refuse compressed pixels that go on after the last one: libpng inflates them all, a thousand bytes for each."""
    if sum(map(len, pieces)) <= QUICK:
        return
    inflater = zlib.decompressobj()
    inflated = 0
    for piece in pieces:
        for start in range(0, len(piece), PIECE):
            rest: bytes | memoryview = piece[start : start + PIECE]
            while rest and not inflater.eof:
                try:
                    inflated += len(inflater.decompress(rest, 16 * PIECE))
                except zlib.error as error:
                    raise ValueLoadError(f"a damaged PNG picture: its pixels cannot be inflated ({error})") from error
                if inflated > most:
                    raise ValueLoadError("a damaged PNG picture: it holds more pixels than its header says")
                rest = inflater.unconsumed_tail
