"""Checksums of a file's blocks, taken while it is written, and compared with it when it is read."""

from __future__ import annotations

import zlib
from typing import Protocol

from mmreg.errors import MmregError

BLOCK_BYTES = 1 << 20
"""Bytes that share a checksum; a part of `mmreg.data.key.LAYOUT`, which another number here has to raise."""


class Output(Protocol):
    """What bytes can be written to."""

    def write(self, data: memoryview, /) -> object:
        """Append some bytes."""


class DamagedEntryError(MmregError):
    """What an entry of the cache holds is not what was written into it."""


class Checksums:
    """The CRC-32 of every block of some bytes, taken as they come.

    Attributes:
        size: how many bytes there were so far.
    """

    def __init__(self) -> None:
        self._complete: list[int] = []
        self._checksum = self._filled = self.size = 0

    def add(self, data: memoryview) -> None:
        """Some more bytes, which are unsigned 8-bit numbers."""
        self.size += len(data)
        while len(data):
            part = data[: BLOCK_BYTES - self._filled]
            data = data[len(part) :]
            self._checksum = zlib.crc32(part, self._checksum)
            self._filled += len(part)
            if self._filled == BLOCK_BYTES:
                self._complete.append(self._checksum)
                self._checksum = self._filled = 0

    @property
    def complete(self) -> int:
        """How many blocks are whole by now, so that their checksums stay as they are."""
        return len(self._complete)

    def checksums(self, first: int = 0) -> list[int]:
        """One for every block so far, or from the first one that is wanted on; the last block may be shorter."""
        return [*self._complete[first:], *([self._checksum] if self._filled else [])]

    def mark(self) -> tuple[int, int, int, int]:
        """The state by now, for `back_to`."""
        return self.complete, self._checksum, self._filled, self.size

    def back_to(self, mark: tuple[int, int, int, int]) -> None:
        """Forget what came after a mark."""
        count, self._checksum, self._filled, self.size = mark
        del self._complete[count:]


class ChecksumWriter(Checksums):
    """Passes on what is written, and takes the checksums of it.

    What comes out of the disk later is so compared with what was in memory, not with what had arrived on the disk.

    Args:
        file: where the bytes go.
    """

    def __init__(self, file: Output) -> None:
        super().__init__()
        self._file = file

    def write(self, data: memoryview) -> None:
        """Append some bytes, which are unsigned 8-bit numbers."""
        self._file.write(data)
        self.add(data)


def check_bytes(name: str, data: memoryview, checksums: list[int]) -> None:
    """Compare all blocks of a file with their checksums.

    Raises:
        DamagedEntryError: one differs; says which file.
    """
    for block, checksum in enumerate(checksums):
        if zlib.crc32(data[block * BLOCK_BYTES : (block + 1) * BLOCK_BYTES]) != checksum:
            raise DamagedEntryError(f"{name} is not as it was written")
