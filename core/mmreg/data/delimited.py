"""CSV and its kin: only the empty cell is absent, a column of numbers is numeric, and an error names its line."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from mmreg.data.dialect import TableFile, find_encoding, find_separator, how_to_say
from mmreg.errors import TableError
from mmreg.messages import listed, plural

BLOCK = 1 << 26
"""Bytes that are parsed at a time; no row may be longer."""

# A column becomes numeric if all its cells are written as a number is. Leading zeros ("007") and more digits than a
# float holds mark names, which stay text. "nan" and "inf" are numbers beside numbers only.
_INTEGER = r"^(0|-?[1-9][0-9]{0,17})$"
_FLOAT = r"^[+-]?((0|[1-9][0-9]{0,14})(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,3})?$"
_NOT_FINITE = r"(?i)^[+-]?(nan|inf|infinity)$"


def read_delimited(file: TableFile, usual: str, missing: Sequence[str] = ()) -> pa.Table:
    """The table in a file of delimited text with a header; quoted cells may hold separators and line ends.

    An empty cell is null, and nothing else is unless it is named: "NA" and "null" are texts. Columns are int64,
    float64 or text.

    Args:
        file: the file, with its separator and encoding if they are known.
        usual: the separator that files of this kind should have.
        missing: further texts that stand for null.

    Raises:
        TableError: the file is in another encoding, a row has more or fewer cells than the header or is too long, or a
            quote never ends.
    """
    path = Path(file.path)
    encoding = find_encoding(path, file.encoding)
    separator = file.separator or find_separator(path, encoding, usual)
    check_lines(path)
    utf8 = encoding == "utf-8-sig"
    try:
        header = _header(path, separator, encoding)
        data = pa.csv.read_csv(
            path,
            read_options=pa.csv.ReadOptions(
                # In UTF-8 a text takes up to three times as much.
                block_size=min(max(path.stat().st_size * (1 if utf8 else 3), 1), BLOCK),
                encoding="utf8" if utf8 else encoding,
            ),
            parse_options=pa.csv.ParseOptions(delimiter=separator, newlines_in_values=True),
            convert_options=pa.csv.ConvertOptions(
                column_types=dict.fromkeys(header, pa.string()),
                null_values=["", *missing],
                strings_can_be_null=True,
            ),
        )
    except (pa.ArrowException, UnicodeError, csv.Error) as error:
        check_encoding(path, encoding, may_be_named=True)
        if "straddling object" in str(error):
            raise _too_long(path) from error
        _check_rows(path, separator, encoding)
        raise TableError(f"{path} cannot be read: {error}") from error
    if any("\n" in (column[-1].as_py() or "") for column in data.columns if len(column)):
        _check_rows(path, separator, encoding)  # the last row would end so, too, if a quote were never closed
    return pa.table([_numeric(column) for column in data.columns], names=data.column_names)


def check_lines(path: Path) -> None:
    """Raise a TableError if a line is longer than a block: it would take several times its size of memory to read."""
    if path.stat().st_size <= BLOCK:
        return
    length = 0
    with path.open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            end = block.find(b"\n")
            length += len(block) if end < 0 else end
            if length > BLOCK:
                raise _too_long(path)
            length = length if end < 0 else len(block) - block.rfind(b"\n") - 1


def _too_long(path: Path) -> TableError:
    return TableError(
        f"{path}: a row is longer than {BLOCK >> 20} MiB, the most that there may be; keep such cells in files "
        "of their own, or the table as Parquet"
    )


def _header(path: Path, separator: str, encoding: str) -> list[str]:
    with _rows(path, separator, encoding) as rows:
        header: list[str] | None = next((row for row in rows if row), None)
    if header is None:
        raise TableError(f"{path} holds nothing but empty lines")
    twice = sorted(name for name, count in Counter(header).items() if count > 1)
    if twice:
        raise TableError(f"{path}: more than one column is called {listed(map(repr, twice))}; rename them")
    return header


@contextmanager
def _rows(path: Path, separator: str, encoding: str, *, strict: bool = False) -> Iterator[Any]:
    """A file's rows by the csv module, which has a limit of its own for the length of a cell."""
    limit = csv.field_size_limit(BLOCK)
    try:
        with path.open(encoding=encoding, newline="") as file:
            yield csv.reader(file, delimiter=separator, strict=strict)
    finally:
        csv.field_size_limit(limit)


def check_encoding(path: Path, encoding: str = "utf-8-sig", *, may_be_named: bool = False) -> None:
    """Raise a TableError that says where a file is not in this encoding, if it is not."""
    if encoding != "utf-8-sig":
        _decode(path, encoding)
        return
    offset = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                or_else = (
                    f"{how_to_say(path, _western(path))} if that is what it is in"
                    if may_be_named
                    else "convert it with iconv -f latin1 -t utf-8"
                )
                raise TableError(
                    f"{path}, line {number}: byte {line[error.start]:#04x} (byte {offset + error.start:,} of the file) "
                    f'is not UTF-8; save the file as UTF-8 (in a spreadsheet: "CSV UTF-8"), or {or_else}'
                ) from None
            offset += len(line)


def _western(path: Path) -> str:
    """The encoding of Western texts that a file's bytes allow: that of Windows has no sign for some."""
    with path.open("rb") as file:
        undefined = any(block.translate(None, _NO_SIGNS) != block for block in iter(lambda: file.read(1 << 20), b""))
    return "latin-1" if undefined else "cp1252"


_NO_SIGNS = b"\x81\x8d\x8f\x90\x9d"


def _decode(path: Path, encoding: str) -> None:
    try:
        with path.open(encoding=encoding, newline="") as file:
            for _ in iter(lambda: file.read(1 << 20), ""):
                pass
    except UnicodeError as error:
        raise TableError(f"{path} is not in the encoding {encoding}: {error}; name the one that it is in") from None


def _check_rows(path: Path, separator: str, encoding: str) -> None:
    """Raise a TableError that names the lines whose number of cells is not the header's, or says that there is none."""
    expected, start, count = 0, 1, 0
    ragged: list[tuple[int, int]] = []
    with _rows(path, separator, encoding, strict=True) as rows:
        try:
            for row in rows:
                expected = expected or len(row)
                count += bool(row)
                if row and len(row) != expected:
                    ragged.append((start, len(row)))
                start = rows.line_num + 1
        except csv.Error as error:
            what = "a quote opens that never ends" if "unexpected end" in str(error) else str(error)
            raise TableError(f"{path}, line {start}: {what}") from None
    if count == 1:
        raise TableError(f"{path} has no rows: there is nothing to read but the names of its columns")
    if ragged:
        lines = listed((f"line {line} has {count}" for line, count in ragged), 5)
        raise TableError(
            f"{path}: the header has {plural(expected, 'column')}, but {lines}; "
            "put quotes around cells that hold the separator, and give every row the same number of cells"
        )


def _numeric(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column of texts as int64 or float64, if every cell is written as such a number and one at least is there."""
    if column.null_count == len(column):
        return column
    for pattern, kind in ((_INTEGER, pa.int64()), (_FLOAT, pa.float64())):
        if _all_match(column, pattern):
            return column.cast(kind)
    if _any_matches(column, _FLOAT) and _all_match(column, f"{_FLOAT}|{_NOT_FINITE}"):
        return column.cast(pa.float64())
    return column


def _all_match(column: pa.ChunkedArray, pattern: str) -> bool:
    return all(
        pc.all(pc.match_substring_regex(chunk, pattern), min_count=0).as_py() is not False for chunk in column.chunks
    )


def _any_matches(column: pa.ChunkedArray, pattern: str) -> bool:
    return any(pc.any(pc.match_substring_regex(chunk, pattern)).as_py() for chunk in column.chunks)
