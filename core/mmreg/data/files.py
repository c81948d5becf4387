"""Tables in files: which endings there are, and what is wrong with a file that cannot be read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa

from mmreg.data.columnar import read_ipc, read_parquet
from mmreg.data.delimited import read_delimited
from mmreg.data.dialect import TableFile
from mmreg.data.json_lines import read_json_lines
from mmreg.errors import TableError
from mmreg.files import irregular
from mmreg.messages import listed, near

DELIMITED = {".csv": ",", ".tsv": "\t", ".tab": "\t", ".txt": "\t"}
"""Endings of delimited text, with the separator that such a file should have."""
READERS: dict[str, Callable[[Path], pa.Table]] = {
    ".jsonl": read_json_lines,
    ".ndjson": read_json_lines,
    ".parquet": read_parquet,
    ".arrow": read_ipc,
    ".feather": read_ipc,
}
ENDINGS = (*DELIMITED, *READERS)
_CONTENTS = (
    (b"PK\x03\x04", "an Excel workbook or a zip archive"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook"),
    (b"\x1f\x8b", "compressed by gzip"),
    (b"BZh91AY&SY", "compressed by bzip2"),
    (b"\xfd7zXZ", "compressed by xz"),
    (b"\x28\xb5\x2f\xfd", "compressed by zstd"),
    (b"PAR1\x15", "a Parquet file"),
    (b"ARROW1\0", "an Arrow file"),
    (b"SQLite format 3\0", "an SQLite database"),
    (b"%PDF-", "a PDF document"),
    (b"\x89HDF", "an HDF5 file"),
)
"""How files of other kinds begin that are taken for tables."""


def read_file(file: TableFile, missing: Sequence[str] = ()) -> pa.Table:
    """The table in a file, by its ending.

    Args:
        file: the file, and how it is written.
        missing: texts that stand for null.

    Raises:
        TableError: the file is missing, a folder, of another kind, unreadable or broken.
    """
    path = Path(file.path)
    try:
        _check_file(path)
        ending = path.suffix.lower()
        if ending in DELIMITED:
            _check_content(path, "text")
            return read_delimited(file, DELIMITED[ending], missing)
        _check_unsaid(file)
        if READERS[ending] is read_json_lines:
            _check_content(path, "JSON lines")
        return READERS[ending](path)
    except OSError as error:
        if isinstance(error, pa.ArrowException):
            raise TableError(f"{path} cannot be read: {error}") from error
        raise TableError(f"{path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise TableError(f"{path} cannot be read: what should be a text in it is not UTF-8 ({error})") from error
    except TableError:
        raise
    except (pa.ArrowException, ValueError) as error:
        raise TableError(f"{path} cannot be read as {path.suffix}: {error}") from error


def _check_file(path: Path) -> None:
    """Refuse what is no file of a table's ending."""
    what = irregular(path)
    if what == "a folder":
        inside = sorted(entry.name for entry in path.iterdir() if entry.suffix.lower() in ENDINGS)
        hint = f": {listed(inside, 5)}" if inside else ", of which it holds none"
        raise TableError(f"{path} is a folder; name the table's file in it{hint}")
    if what:
        raise TableError(f"{path} is {what}, where a table's file is needed; write what it gives into a file")
    if not path.exists():
        raise TableError(f"there is no table {path}{_near_sibling(path)}")
    if path.suffix.lower() not in ENDINGS:
        raise TableError(
            f"{path}: a table's file ends in one of {', '.join(ENDINGS)}, not in {path.suffix!r}; "
            "save or export it as one of these"
        )
    if path.stat().st_size == 0:
        raise TableError(f"{path} is empty (0 bytes)")


def _check_unsaid(file: TableFile) -> None:
    """Refuse what can be said of delimited text only."""
    for name, given in (("separator", file.separator), ("encoding", file.encoding)):
        if given is not None:
            raise TableError(
                f"{file.path} is no delimited text ({', '.join(DELIMITED)}): it has no {name}; leave it out"
            )


def _check_content(path: Path, expected: str) -> None:
    """Refuse a file that begins as one of another kind does."""
    with path.open("rb") as file:
        start = file.read(16)
    what = next((what for mark, what in _CONTENTS if start.startswith(mark)), None)
    if what is not None:
        raise TableError(
            f"{path} is {what}, where {path.suffix} says that it is {expected}; "
            "save or export the table itself as CSV (or give the file its own ending, if it is one of "
            f"{', '.join(READERS)})"
        )


def _near_sibling(path: Path) -> str:
    if not path.parent.is_dir():
        return f" (nor a folder {path.parent})"
    return near(path.name, [entry.name for entry in path.parent.iterdir()])
