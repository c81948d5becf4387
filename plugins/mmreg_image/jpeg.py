"""A JPEG file's frame, and how many scans it takes to decode it."""

from __future__ import annotations

import re
import struct

from mmreg.errors import ValueLoadError
from mmreg_image.pixels import check_size

MAX_SCANS = 100
"""Progressive pictures have about ten; each goes over the whole picture, even if it has no bits for most of it."""
MAX_SCANNED = 2_000_000_000
"""The most pixels in all scans together; a second is enough for some 300 million."""

_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]", re.DOTALL)


def read_jpeg(data: bytes) -> int:
    """Check a file's size and the number of its scans.

    Returns:
        The number of components: 1 for grey, 3 or 4 for colours.

    Raises:
        ValueLoadError: it is too large, or has too many scans.
        struct.error, IndexError: it ends before its frame begins.
    """
    position = 2
    while True:
        marker = data[position + 1]
        if data[position] != 0xFF or marker == 0xFF:
            position += 1  # fill bytes
        elif marker in range(0xC0, 0xD0) and marker not in (0xC4, 0xC8, 0xCC):
            height, width, components = struct.unpack_from(">HHB", data, position + 5)
            break
        elif marker in range(0xD0, 0xDA) or marker == 0x01:
            position += 2  # markers without content
        else:
            position += 2 + struct.unpack_from(">H", data, position + 2)[0]
    check_size(height, width)
    most = min(MAX_SCANS, MAX_SCANNED // (height * width))
    if data.count(b"\xff\xda") > most:  # also within a preview, and by chance in what is no marker
        scans = _count_scans(data, position)
        if scans > most:
            raise ValueLoadError(
                f"a JPEG picture of {width} x {height} pixels in {scans:,} scans is refused: each goes over the whole "
                f"picture, and at most {most} are decoded"
            )
    components_found: int = components
    return components_found


def _count_scans(data: bytes, position: int) -> int:
    """The scans from a segment on, up to the end of the picture."""
    scans = 0
    while (found := _MARKER.search(data, position)) is not None:
        marker = data[found.start() + 1]
        if marker == 0xD9:
            break
        scans += marker == 0xDA
        position = found.end()
        if marker != 0x01 and position + 2 <= len(data):
            position += struct.unpack_from(">H", data, position)[0]
    return scans
