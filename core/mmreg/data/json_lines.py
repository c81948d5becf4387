"""Tables as JSON lines: one object of column: value a line."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.json

from mmreg.data.delimited import BLOCK, check_encoding, check_lines
from mmreg.data.validation import validated
from mmreg.errors import TableError

DEEPEST = 64
"""Brackets that may be open at a time: Arrow's parser has a stack that does not take any number."""
_STRING = re.compile(rb'"[^"\\\\]*(?:\\\\.[^"\\\\]*)*"?', re.DOTALL)


def read_json_lines(path: Path) -> pa.Table:
    """The table in a file of JSON lines; texts that look like times are texts.

    Raises:
        TableError: says which line is wrong, and why.
    """
    check_lines(path)
    _check_depth(path)
    try:
        data = _parse(path, None)
        plain = pa.schema([field.with_type(_without_times(field.type)) for field in data.schema])
        # Arrow takes texts that look like times for times, but a text is a text here.
        return validated(data if plain.equals(data.schema) else _parse(path, plain), path)
    except (pa.ArrowException, UnicodeDecodeError, TableError) as error:
        check_encoding(path)
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                _check_line(line.removeprefix(b"\xef\xbb\xbf"), f"{path}, line {number}")
        raise TableError(f"{path} cannot be read as JSON lines: {error}") from error


def _parse(path: Path, schema: pa.Schema | None) -> pa.Table:
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


def _check_depth(path: Path) -> None:
    """Raise a TableError that names the first line where too many brackets are open; an object may span lines."""
    depth = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            marks = np.frombuffer(_STRING.sub(b"", line), np.uint8)
            steps = _STEPS[marks]
            steps = steps[steps != 0]
            depths = depth + np.cumsum(steps)
            if len(depths) and depths.max() > DEEPEST:
                raise TableError(f"{path}, line {number}: more than {DEEPEST} lists and objects within each other")
            depth = max(0, int(depths[-1])) if len(depths) else depth


_STEPS = np.zeros(256, np.int32)
_STEPS[list(b"[{")], _STEPS[list(b"]}")] = 1, -1


def _check_line(line: bytes, where: str) -> None:
    if not line.strip():
        return
    try:
        value = json.loads(line)
    except ValueError as error:
        raise TableError(f"{where} is no JSON: {error}; each line must hold one object of column: value") from None
    if not isinstance(value, dict):
        raise TableError(f"{where} holds a {type(value).__name__}; each line must hold one object of column: value")
