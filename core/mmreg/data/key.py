"""The key of a cache's entry: everything that the stored values depend on, the files that cells name included."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmreg.contract.interfaces import Modality
from mmreg.contract.spec import specs_to_json
from mmreg.data.cells import iter_paths
from mmreg.data.table import Table
from mmreg.errors import ValueLoadError

LAYOUT = 2
"""The version of what an entry's files hold."""
MOST_FILES = 100_000
"""Files and folders that one cell's folder may hold: to look at so many takes about half a second."""


def load_facts(modality: Modality, columns: Sequence[str], options: Mapping[str, Any], store: str = "decoded") -> bytes:
    """What of a modality the stored values depend on, as bytes to hash.

    Args:
        modality: after `fit_values`.
        columns: what it reads.
        options: its options as JSON data.
        store: what is kept of a value.
    """
    cls = type(modality)
    facts = {
        "layout": LAYOUT,
        "modality": f"{cls.__module__}.{cls.__qualname__}",
        "version": modality.version,
        "options": {name: value for name, value in options.items() if name not in modality.transform_options},
        "state": modality.load_state_key(),
        "stored": specs_to_json(modality.stored),
        "columns": list(columns) if modality.multiple_columns else len(columns),
        **({} if store == "decoded" else {"store": store}),
    }
    return json.dumps(facts, sort_keys=True, default=str).encode()


def code_facts(component: object) -> str:
    """A hash of the code that makes values, such as a modality's: of its module, and of those beside it.

    A half of an entry is used with the other half only if one code made both: its author may be at work on it.
    """
    digest = hashlib.blake2b(version("mmreg").encode(), digest_size=16)
    file = getattr(sys.modules.get(type(component).__module__), "__file__", None)
    with contextlib.suppress(OSError):  # no file, as of what somebody typed
        for path in sorted(Path(file).parent.glob("*.py")) if file else ():
            digest.update(path.read_bytes())
    return digest.hexdigest()


def entry_key(
    facts: bytes, table: Table, columns: Sequence[str], rows: NDArray[np.int64], *, paths: bool
) -> tuple[str, dict[Path, str]]:
    """The key of a modality's values, and the folders that cannot be watched, each with the cause.

    Args:
        facts: the modality's `load_facts`.
        table: all rows.
        columns: what the modality reads.
        rows: those whose cells name all the files that any cell names.
        paths: whether texts are paths.
    """
    digest = hashlib.blake2b(facts + str(len(table)).encode(), digest_size=20)
    files = _Files()
    for column in columns:
        table.hash_column(column, digest.update)
        if paths:
            for path in iter_paths(table, column, rows):
                digest.update(files.facts(path))
    return digest.hexdigest(), files.refused


class _Files:
    """What is known of files without reading them: place, size and time; of a folder, that of all files below it.

    Attributes:
        refused: the folders that hold too much or themselves, each with the cause.
    """

    def __init__(self) -> None:
        self.current = os.getcwd()  # noqa: PTH109 (pathlib takes longer than the file system)
        self.refused: dict[Path, str] = {}
        self._folders: dict[str, bytes] = {}
        self._places: dict[str, str] = {}

    def facts(self, path: str | None) -> bytes:
        """A file's or folder's facts as bytes to hash."""
        if path is None:
            return b"\0"
        absolute = self._place(path)
        try:
            status = os.stat(absolute)  # noqa: PTH116
        except (OSError, ValueError):  # missing; also a name that is too long, or holds a zero byte
            return f"{absolute}\0missing\0".encode(errors="surrogatepass")
        if stat.S_ISDIR(status.st_mode):
            if absolute not in self._folders:
                self._folders[absolute] = self._folder(path, absolute, status)
            return self._folders[absolute]
        return f"{absolute}\0{status.st_size}\0{status.st_mtime_ns}\0".encode(errors="surrogatepass")

    def _place(self, path: str) -> str:
        """Where a file is, however its path is written."""
        folder, name = os.path.split(os.path.join(self.current, path))  # noqa: PTH118 (see above)
        place = self._places.get(folder)
        if place is None:
            place = self._places[folder] = os.path.realpath(folder)
        return os.path.join(place, name)  # noqa: PTH118 (see above)

    def _folder(self, path: str, absolute: str, status: os.stat_result) -> bytes:
        digest = hashlib.blake2b(f"{absolute}\0folder\0".encode(errors="surrogatepass"), digest_size=20)
        try:
            for line in sorted(_lines_below(absolute, status)):
                digest.update(line.encode(errors="surrogatepass"))
        except ValueLoadError as error:
            self.refused[Path(path)] = str(error)
            digest.update(str(error).encode(errors="surrogatepass"))
        return digest.digest()


def _lines_below(folder: str, status: os.stat_result) -> list[str]:
    """A line for every file below a folder, in no order: its path from there, its size and its time.

    Raises:
        ValueLoadError: there are too many, or a link leads to a folder that it is in.
    """
    lines: list[str] = []
    seen = 0
    pending = [(folder, "", frozenset({(status.st_dev, status.st_ino)}))]
    while pending:
        path, inside, above = pending.pop()
        try:
            with os.scandir(path) as entries:
                names = [entry.name for entry in islice(entries, MOST_FILES + 1)]
        except OSError:
            lines.append(f"{inside}\0unreadable\0")
            continue
        seen += len(names)
        if seen > MOST_FILES:
            raise ValueLoadError(
                f"{folder} holds more than {MOST_FILES:,} files, too many to watch for changes; name a smaller folder, "
                "or pack the files into one"
            )
        for name in names:
            full, within = f"{path}{os.sep}{name}", f"{inside}/{name}"
            try:
                found = os.stat(full)  # noqa: PTH116 (see above)
            except OSError:  # a link that leads nowhere
                lines.append(f"{within}\0missing\0")
                continue
            if not stat.S_ISDIR(found.st_mode):
                lines.append(f"{within}\0{found.st_size}\0{found.st_mtime_ns}\0")
                continue
            identity = (found.st_dev, found.st_ino)
            if identity in above:
                raise ValueLoadError(f"in {folder}, {within[1:]} is a link to a folder that it is in; remove it")
            pending.append((full, within, above | {identity}))
    return lines
