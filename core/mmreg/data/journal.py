"""What of an entry under way is done, so that the next process goes on where one was killed."""

from __future__ import annotations

import contextlib
import json
import zlib
from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Self

from mmreg.data.cache import JOURNAL, is_file, open_regular
from mmreg.data.checksums import BLOCK_BYTES, Checksums, ChecksumWriter, Output

ABSENT, BAD = -1, -2
"""What stands for the size of a value that is not there."""


class Work:
    """Where values go, and what is done of them.

    Args:
        out: where the bytes of each named array go; of one array alone, under the empty name.

    Attributes:
        sizes: for each value that is done, its size along the ragged axis (0 where none is ragged), `ABSENT` or `BAD`.
        causes: for each `BAD` one in turn, why it could not be loaded.
    """

    def __init__(self, out: Mapping[str, Output]) -> None:
        self.out = out
        self.sizes = array("q")
        self.causes: list[str] = []

    def add(self, sizes: Sequence[int], causes: Sequence[str]) -> None:
        """A chunk of values is done, and written."""
        self.sizes.extend(sizes)
        self.causes.extend(causes)


class Journal(Work):
    """Files that grow by a chunk of values at a time, and a file with a line for each chunk that says what they hold.

    Of what an earlier process left in the folder, as many lines are believed as are whole and fit the files, byte by
    byte; the rest is cut off. Nothing waits for the disk: what a power failure takes, the checksums tell.

    Args:
        folder: where the files are, or are to be.
        files: the name of the file of each array.
        code: what the values depend on besides the entry's key; with another one nothing is believed.
    """

    def __init__(self, folder: Path, files: Mapping[str, str], code: str) -> None:
        self._opened = contextlib.ExitStack()
        self._files: dict[str, IO[bytes]] = {name: self._open(folder / file) for name, file in files.items()}
        self._written = {name: ChecksumWriter(file) for name, file in self._files.items()}
        super().__init__(self._written)
        self._known = dict.fromkeys(files, 0)  # blocks whose checksums stand in an earlier line
        self._lines = self._open(folder / JOURNAL)
        self._goes_on(_line({"code": code, "files": dict(files)}))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def _open(self, path: Path) -> IO[bytes]:
        """A file to read and write, as it is if it is there."""
        return self._opened.enter_context(open_regular(path, "r+b" if is_file(path) else "x+b"))

    @property
    def checksums(self) -> Mapping[str, Checksums]:
        """Of each array's file."""
        return self._written

    def add(self, sizes: Sequence[int], causes: Sequence[str]) -> None:
        """A chunk is done: its bytes are written to `out`."""
        files = {}
        for name, file in self._files.items():
            file.flush()
            written, known = self._written[name], self._known[name]
            files[name] = [written.size, written.checksums(known)]
            self._known[name] = written.complete
        self._lines.write(_line({"sizes": list(sizes), "causes": list(causes), "files": files}))
        self._lines.flush()
        super().add(sizes, causes)

    def _goes_on(self, header: bytes) -> None:
        """Believe what can be believed, and cut off the rest."""
        lines = iter(self._lines)
        whole = 0
        if next(lines, b"") == header:
            whole = len(header)
            for line in lines:
                if not self._believed(line):
                    break
                whole += len(line)
        for name, file in self._files.items():
            _cut(file, self._written[name].size)
        _cut(self._lines, whole)
        if not whole:
            self._lines.write(header)
        self._known = {name: written.complete for name, written in self._written.items()}

    def _believed(self, line: bytes) -> bool:
        """Whether a line is whole and the files hold what it says; if so, that is counted as done."""
        marks = {name: written.mark() for name, written in self._written.items()}
        try:
            facts = _facts(line)
            sizes, causes = array("q", facts["sizes"]), [str(cause) for cause in facts["causes"]]
            good = sizes.count(BAD) == len(causes) and all(
                self._holds(name, *facts["files"][name], first=marks[name][0]) for name in self._files
            )
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            good = False
        if good:
            super().add(facts["sizes"], causes)
        else:
            for name, mark in marks.items():
                self._written[name].back_to(mark)
        return good

    def _holds(self, name: str, size: int, checksums: list[int], *, first: int) -> bool:
        """Whether a file holds what it should up to a size, as far as that was not read before."""
        seen = self._written[name]
        while seen.size < size:
            data = self._files[name].read(min(BLOCK_BYTES, size - seen.size))
            if not data:
                return False
            seen.add(memoryview(data))
        return seen.size == size and seen.checksums(first) == checksums


def _line(facts: Any) -> bytes:
    text = json.dumps(facts).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _facts(line: bytes) -> Any:
    """What a line says.

    Raises:
        ValueError: it is not as it was written.
    """
    checksum, text = line.rstrip(b"\n").split(b" ", 1)
    if not line.endswith(b"\n") or int(checksum, 16) != zlib.crc32(text):
        raise ValueError("a line is not as it was written")
    return json.loads(text)


def _cut(file: IO[bytes], size: int) -> None:
    file.truncate(size)
    file.seek(size)
