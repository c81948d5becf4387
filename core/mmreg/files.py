"""Writing files whole or not at all, and tables as the text of a file: CSV and Markdown."""

from __future__ import annotations

import csv
import errno
import importlib
import io
import json
import os
import re
import secrets
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import platformdirs

from mmreg.errors import ArgumentError, OptionError
from mmreg.messages import cell, shown

fcntl: Any = None if sys.platform == "win32" else importlib.import_module("fcntl")
"""Locks of files, which Windows has not."""


def cache_dir() -> Path:
    """The folder of caches: the environment variable MMREG_CACHE_DIR, else the user's cache folder."""
    chosen = os.environ.get("MMREG_CACHE_DIR")
    return Path(chosen) if chosen else platformdirs.user_cache_path("mmreg")


def as_path(given: object, name: str, what: str = "a path") -> Path:
    """A path that was given from Python.

    Args:
        given: a text or a path.
        name: the argument's, for the message.
        what: what it may be.

    Raises:
        ArgumentError: it is neither.
        OptionError: the system has no files of such a name.
    """
    if not isinstance(given, str | os.PathLike) or isinstance(os.fspath(given), bytes):
        raise ArgumentError(f"{name} is {what}; found {shown(given)}")
    path = Path(given)
    try:
        path.lstat()
    except (OSError, ValueError) as error:  # mostly nothing is there
        if isinstance(error, ValueError) or error.errno == errno.ENAMETOOLONG:
            why = error.strerror if isinstance(error, OSError) else str(error)
            raise OptionError(f"{name}: {shown(str(path))} can be no path: {why}") from error
    return path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside a file, which replaces the file if the block succeeds and vanishes otherwise.

    It is on the disk before it gets its name, so that not even a power failure leaves half of a file.

    Raises:
        OSError: it cannot be written; names the file, which a full disk's error does not by itself.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        yield temporary
        sync(temporary)
        os.replace(temporary, path)  # noqa: PTH105 (atomic on every platform)
        sync(path.parent)
    except OSError as error:
        if error.errno is None or error.filename not in (None, str(temporary)):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        with suppress(OSError):  # of a folder that is gone: what was wrong before is told
            temporary.unlink()


def remove_unfinished(folder: Path) -> None:
    """Remove what `replacing` left half written in a folder where its process was killed."""
    for path in folder.glob(".*.tmp"):
        if _UNFINISHED.fullmatch(path.name):
            path.unlink(missing_ok=True)


_UNFINISHED = re.compile(r"\..+\.[0-9a-f]+\.tmp")


def sync(path: Path) -> None:
    """Wait until a file's content, or a folder's names, are on the disk, where the system can tell."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:  # a folder on Windows
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EROFS, errno.EBADF, errno.ENOTSUP):  # a place that cannot be synced
            raise
    finally:
        os.close(descriptor)


def keep_under(path: Path, other: Path) -> None:
    """Give a file a second name, in the place of what has it, as the first one is about to get another content."""
    try:
        with replacing(other) as temporary:
            os.link(path, temporary)
    except OSError:  # a file system without second names: for a moment there is the file of the second name alone
        os.replace(path, other)  # noqa: PTH105 (atomic on every platform)


def irregular(path: Path) -> str:
    """What is there that cannot be opened as a file, such as "a folder" or "a FIFO"; empty for a file or nothing.

    Whoever opens a FIFO waits for somebody to write into it, and a device may never end.
    """
    try:
        mode = path.stat().st_mode
    except OSError as error:  # mostly nothing is there
        return "a link that leads to itself" if error.errno == errno.ELOOP else ""
    except ValueError:  # the name is none that a file can have
        return ""
    return next((what for holds, what in _IRREGULAR if holds(mode)), "")


_IRREGULAR: tuple[tuple[Callable[[int], bool], str], ...] = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)


def unwritable(path: Path) -> str | None:
    """Why a file or folder cannot be made here, as far as that can be told without making it; None if it can."""
    for place in path.absolute().parents:
        if place.exists():  # asked first, as another process may make it meanwhile
            if not place.is_dir():
                return f"{place} is a file, not a folder"
            return None if os.access(place, os.W_OK | os.X_OK) else f"the folder {place} cannot be written to"
        if place.is_symlink():
            return f"{place} is a link that leads nowhere"
    return None


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, data: Any) -> None:
    """Write plain data as JSON, whole or not at all."""
    write_text(path, json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def csv_text(rows: Iterable[Mapping[str, Any]], columns: Sequence[str] | None = None) -> str:
    """Rows as CSV with a header; None is an empty cell, and a list or mapping in a cell is JSON.

    Args:
        rows: each by its columns' names; a row may lack some.
        columns: which columns; those of all rows in the order in which they first appear, if not given.
    """
    rows = list(rows)
    columns = columns or all_columns(rows)
    return columns_csv({name: [row.get(name) for row in rows] for name in columns})


def columns_csv(columns: Mapping[str, Iterable[Any]]) -> str:
    """Columns of the same length as CSV; see `csv_text`."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in zip(*columns.values(), strict=True):
        writer.writerow([value if type(value) in _SIMPLE else _plain(value) for value in row])
    return text.getvalue()


_SIMPLE = frozenset({str, float, int, type(None)})


def _plain(value: Any) -> Any:
    nested = isinstance(value, Mapping | list | tuple)
    return json.dumps(value, ensure_ascii=False, default=str) if nested else value


def markdown_table(rows: Iterable[Mapping[str, Any]]) -> str:
    """Rows as a Markdown table, its cells as `mmreg.messages.cell` shows values; nothing where there is no row.

    The columns are those of all rows, in the order in which they first appear.
    """
    rows = list(rows)
    columns = all_columns(rows)
    if not columns:
        return ""
    cells = [columns, *([cell(row.get(name)) for name in columns] for row in rows)]
    lines = [[text.replace("|", "\\|") for text in line] for line in cells]
    lines.insert(1, ["---"] * len(columns))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def all_columns(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """The columns of all rows, in the order in which they first appear."""
    return list(dict.fromkeys(name for row in rows for name in row))
