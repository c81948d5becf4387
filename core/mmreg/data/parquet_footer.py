"""What a Parquet file's footer says of its columns, read without Arrow, whose own reader ends the process at some.

The footer is a structure in Thrift's compact protocol; both are specified at https://parquet.apache.org/docs/.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DEEPEST = 16
"""Structures within each other; the format needs half as many."""
_WIDTHS = {0: 1, 1: 4, 2: 8, 3: 12, 4: 4, 5: 8, 6: 4}
BYTE_ARRAY, FIXED_LENGTH = 6, 7
DICTIONARIES = frozenset({2, 8})
"""The encodings that refer to a dictionary."""


@dataclass(frozen=True)
class Chunk:
    """A column within a group of rows.

    Attributes:
        path: the column's name, with those of the fields that lead into it.
        size: the bytes that its values take, if each takes what it takes in the file or more.
        repeated: the bytes that they may take besides, if a dictionary's longest value stands in every row.
    """

    path: str
    size: int
    repeated: int


def read_footer(path: Path) -> tuple[int, list[Chunk]]:
    """The number of rows and the chunks that a footer names.

    Raises:
        ValueError: it is damaged.
    """
    with path.open("rb") as file:
        end = file.seek(-8, os.SEEK_END)
        length = int.from_bytes(file.read(4), "little")
        file.seek(max(0, end - length))
        data = file.read(length)
    try:
        footer = _Thrift(data).structure()
        return footer[3], list(_chunks(footer))
    except (LookupError, TypeError, AttributeError) as error:
        raise ValueError("what its footer says is incomplete") from error


def _chunks(footer: dict[int, Any]) -> Iterator[Chunk]:
    widths = [element.get(2, 0) for element in footer[2][1:] if not element.get(5)]  # of the leaves
    for group in footer[4]:
        for column, width in zip(group[1], widths, strict=False):
            facts = column[3]
            kind, values = facts[1], max(0, facts[5])
            size = max(facts[6], values * (width if kind == FIXED_LENGTH else _WIDTHS[kind]))
            repeats = kind == BYTE_ARRAY and not DICTIONARIES.isdisjoint(facts[2])
            path = ".".join(part.decode() for part in facts[3])
            yield Chunk(path, size, values * max(0, facts[6]) if repeats else 0)


class _Thrift:
    """A reader of Thrift's compact protocol, which gives structures as dicts by their fields' numbers."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at, self.depth = data, 0, 0

    def structure(self) -> dict[int, Any]:
        self.depth += 1
        if self.depth > DEEPEST:
            raise LookupError
        fields: dict[int, Any] = {}
        number = 0
        while head := self.byte():
            number = number + (head >> 4) if head >> 4 else self.integer()
            kind = head & 15
            fields[number] = kind == 1 if kind in (1, 2) else self.value(kind)
        self.depth -= 1
        return fields

    def value(self, kind: int) -> Any:
        if kind in (4, 5, 6):
            return self.integer()
        if kind == 8:
            return self.take(self.varint())
        if kind in (9, 10):
            head = self.byte()
            size = self.varint() if head >> 4 == 15 else head >> 4
            return [self.value(head & 15) for _ in range(size)]  # each takes a byte at least, or there is none left
        if kind == 12:
            return self.structure()
        if kind in (1, 2, 3):
            return self.byte()
        if kind == 7:
            return self.take(8)
        raise LookupError  # a map, of which the format has none

    def byte(self) -> int:
        self.at += 1
        return self.data[self.at - 1]

    def take(self, size: int) -> bytes:
        self.at += size
        if self.at > len(self.data):
            raise LookupError
        return self.data[self.at - size : self.at]

    def varint(self) -> int:
        number = shift = 0
        while True:
            byte = self.byte()
            number |= (byte & 127) << shift
            if byte < 128:
                return number
            shift += 7
            if shift > 63:
                raise LookupError

    def integer(self) -> int:
        number = self.varint()
        return number >> 1 if not number & 1 else -(number >> 1) - 1
