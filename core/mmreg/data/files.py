"""Tables in files: which endings there are, and what is wrong with a file that cannot be read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.json
import pyarrow.parquet

from mmreg.data.delimited import BLOCK, check_encoding, read_delimited
from mmreg.errors import TableError
from mmreg.messages import listed, near


def read_file(path: Path) -> pa.Table:
    """The table in a file, by its ending.

    Raises:
        TableError: the file is missing, a folder, of another kind, unreadable or broken.
    """
    reader = READERS.get(path.suffix.lower())
    if not path.exists():
        raise TableError(f"there is no table {path}{_near_sibling(path)}")
    if path.is_dir():
        inside = sorted(entry.name for entry in path.iterdir() if entry.suffix.lower() in READERS)
        hint = f": {listed(inside, 5)}" if inside else ", of which it holds none"
        raise TableError(f"{path} is a folder; name the table's file in it{hint}")
    if reader is None:
        raise TableError(
            f"{path}: a table's file ends in one of {', '.join(READERS)}, not in {path.suffix!r}; "
            "save or export it as one of these"
        )
    try:
        if path.stat().st_size == 0:
            raise TableError(f"{path} is empty (0 bytes)")
        return reader(path)
    except OSError as error:
        if isinstance(error, pa.ArrowException):
            raise TableError(f"{path} cannot be read: {error}") from error
        raise TableError(f"{path} cannot be read: {error.strerror or error}") from error
    except pa.ArrowException as error:
        raise TableError(f"{path} cannot be read as {path.suffix}: {error}") from error


def _near_sibling(path: Path) -> str:
    if not path.parent.is_dir():
        return f" (nor a folder {path.parent})"
    return near(path.name, [entry.name for entry in path.parent.iterdir()])


def _read_json_lines(path: Path) -> pa.Table:
    try:
        data = _parse_json(path, None)
        plain = pa.schema([field.with_type(_without_times(field.type)) for field in data.schema])
        # Arrow takes texts that look like times for times, but a text is a text here.
        return data if plain.equals(data.schema) else _parse_json(path, plain)
    except (pa.ArrowException, UnicodeDecodeError) as error:
        check_encoding(path)
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                _check_json_line(line.removeprefix(b"\xef\xbb\xbf"), f"{path}, line {number}")
        raise TableError(f"{path} cannot be read as JSON lines: {error}") from error


def _parse_json(path: Path, schema: pa.Schema | None) -> pa.Table:
    block = min(max(path.stat().st_size, 1), BLOCK)
    return pa.json.read_json(
        path,
        read_options=pa.json.ReadOptions(block_size=block),
        parse_options=pa.json.ParseOptions(explicit_schema=schema),
    )


def _without_times(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_timestamp(kind):
        return pa.string()
    if pa.types.is_list(kind):
        return pa.list_(_without_times(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_without_times(field.type)) for field in kind])
    return kind


def _check_json_line(line: bytes, where: str) -> None:
    if not line.strip():
        return
    try:
        value = json.loads(line)
    except ValueError as error:
        raise TableError(f"{where} is no JSON: {error}; each line must hold one object of column: value") from None
    if not isinstance(value, dict):
        raise TableError(f"{where} holds a {type(value).__name__}; each line must hold one object of column: value")


def _read_parquet(path: Path) -> pa.Table:
    return pa.parquet.ParquetFile(path, memory_map=True).read()


def _read_ipc(path: Path) -> pa.Table:
    source = pa.memory_map(str(path))
    try:
        return pa.ipc.open_file(source).read_all()
    except pa.ArrowInvalid:
        source.seek(0)
        return pa.ipc.open_stream(source).read_all()


READERS: dict[str, Callable[[Path], Any]] = {
    ".csv": lambda path: read_delimited(path, ","),
    ".tsv": lambda path: read_delimited(path, "\t"),
    ".jsonl": _read_json_lines,
    ".ndjson": _read_json_lines,
    ".parquet": _read_parquet,
    ".arrow": _read_ipc,
    ".feather": _read_ipc,
}
