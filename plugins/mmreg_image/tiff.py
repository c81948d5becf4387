"""How many numbers a TIFF file lists about itself, told without reading them."""

from __future__ import annotations

import struct

from mmreg.errors import ValueLoadError

MAX_NUMBERS = 500_000
"""The most numbers in its directories: Pillow makes an object of each, and a decoder for each strip or tile."""
MAX_DIRECTORIES = 16

_BYTES = (1, 2, 6, 7)
"""Types of values that stay bytes."""
_FURTHER = (34665, 34853, 40965)
"""Tags that name the place of a further directory: EXIF, GPS, interoperability."""


def check_tiff(data: bytes) -> None:
    """Refuse a file whose directories list more than any picture needs; what is no TIFF file is let pass.

    Raises:
        ValueLoadError: it lists more than `MAX_NUMBERS` numbers.
    """
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None or len(data) < 16:
        return
    (version,) = struct.unpack_from(f"{order}H", data, 2)
    if version not in (42, 43):
        return
    large = version == 43
    number, entry = ("Q", "HHQQ") if large else ("L", "HHLL")
    places = [struct.unpack_from(order + number, data, 8 if large else 4)[0]]
    numbers = 0
    for place in places:  # grows as further ones are found
        try:
            (count,) = struct.unpack_from(order + ("Q" if large else "H"), data, place)
            start, size = place + (8 if large else 2), struct.calcsize(order + entry)
            for at in range(min(count, (len(data) - start) // size)):
                tag, kind, values, value = struct.unpack_from(order + entry, data, start + at * size)
                numbers += 0 if kind in _BYTES else values
                if tag in _FURTHER and value not in places and len(places) < MAX_DIRECTORIES:
                    places.append(value)
                if numbers > MAX_NUMBERS:
                    raise ValueLoadError(
                        f"a TIFF picture that lists more than {MAX_NUMBERS:,} numbers about itself is refused: "
                        "save it with fewer strips, tiles or tags"
                    )
        except (struct.error, OverflowError):  # a place outside the file, which Pillow tells of
            continue
