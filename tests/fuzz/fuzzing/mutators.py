"""Damage to bytes: what a disk, a network, another program or an attacker makes of a file."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from random import Random

NUMBERS = (0, 1, -1, 127, 128, 255, 256, 32767, 32768, 65535, 2**31 - 1, -(2**31), 2**32 - 1, 2**63 - 1, -(2**63))
WIDTHS = {"b": 8, "h": 16, "i": 32, "q": 64}


def damaged(random: Random, data: bytes, others: Sequence[bytes] = (), texts: Sequence[bytes] = ()) -> bytes:
    """Bytes with one to four things done to them.

    Args:
        random: the draws.
        data: the bytes.
        others: files of the same kind, of which pieces are put in.
        texts: what means something in such a file, to be put in.
    """
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        data = random.choice(DAMAGES)(random, data, others, texts)
    return data


def _place(random: Random, data: bytes) -> int:
    """A place in the data, often near its begin or end, where headers and footers are."""
    if not data:
        return 0
    near = min(len(data), 64 if random.random() < 0.5 else 512)
    return random.choice((random.randrange(len(data)), random.randrange(near), len(data) - 1 - random.randrange(near)))


def _range(random: Random, data: bytes) -> tuple[int, int]:
    start = _place(random, data)
    length = random.choice((1, 2, 4, 8, random.randrange(1, 64), random.randrange(1, 4096)))
    return start, min(len(data), start + length)


def _flip(random: Random, data: bytes, *_: object) -> bytes:
    at = _place(random, data)
    return data[:at] + bytes(byte ^ (1 << random.randrange(8)) for byte in data[at : at + 1]) + data[at + 1 :]


def _noise(random: Random, data: bytes, *_: object) -> bytes:
    start, end = _range(random, data)
    return data[:start] + random.randbytes(end - start) + data[end:]


def _number(random: Random, data: bytes, *_: object) -> bytes:
    at, kind, number = _place(random, data), random.choice("bhiq"), random.choice(NUMBERS)
    packed = struct.pack(random.choice("<>") + kind.upper(), number % (1 << WIDTHS[kind]))
    return data[:at] + packed + data[at + len(packed) :]


def _cut_end(random: Random, data: bytes, *_: object) -> bytes:
    return data[: _place(random, data)]


def _cut_out(random: Random, data: bytes, *_: object) -> bytes:
    start, end = _range(random, data)
    return data[:start] + data[end:]


def _repeat(random: Random, data: bytes, *_: object) -> bytes:
    start, end = _range(random, data)
    return data[:end] + data[start:end] * random.choice((1, 2, 16, 200)) + data[end:]


def _zeros(random: Random, data: bytes, *_: object) -> bytes:
    start, end = _range(random, data)
    return data[:start] + bytes(end - start) + data[end:]


def _append(random: Random, data: bytes, *_: object) -> bytes:
    return data + random.choice((bytes(random.randrange(1, 5000)), random.randbytes(random.randrange(1, 200))))


def _splice(random: Random, data: bytes, others: Sequence[bytes], _: object) -> bytes:
    other = random.choice(others) if others else data
    start, end = _range(random, other)
    at = _place(random, data)
    return data[:at] + random.choice((other[start:end], other[start:])) + data[at:]


def _text(random: Random, data: bytes, _: object, texts: Sequence[bytes]) -> bytes:
    if not texts:
        return _noise(random, data)
    start, end = _range(random, data)
    return data[:start] + random.choice(texts) + data[random.choice((start, end)) :]


DAMAGES: tuple[Callable[..., bytes], ...] = (
    *(_flip, _flip, _noise, _number, _number, _cut_end, _cut_out, _repeat, _zeros, _append, _splice, _text, _text),
)
