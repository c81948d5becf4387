"""CSV and TSV: only the empty cell is absent, a column of numbers is numeric, and an error names its line."""

from __future__ import annotations

import codecs
import csv
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from mmreg.errors import TableError
from mmreg.messages import listed, plural

BLOCK = 1 << 26
"""Bytes that are parsed at a time; no row may be longer."""

# A column becomes numeric if all its cells are written as a number is. Leading zeros ("007") and more digits than a
# float holds mark names, which stay text. "nan" and "inf" are numbers beside numbers only.
_INTEGER = r"^(0|-?[1-9][0-9]{0,17})$"
_FLOAT = r"^[+-]?((0|[1-9][0-9]{0,14})(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,3})?$"
_NOT_FINITE = r"(?i)^[+-]?(nan|inf|infinity)$"


def read_delimited(path: Path, delimiter: str) -> pa.Table:
    """The table in a delimited UTF-8 text file with a header; quoted cells may hold delimiters and line ends.

    An empty cell is null, and nothing else is: "NA" and "null" are texts. Columns are int64, float64 or text.

    Raises:
        TableError: the file is not UTF-8, a row has more or fewer cells than the header, or a quote never ends.
    """
    check_bom(path)
    try:
        header = _header(path, delimiter)
        data = pa.csv.read_csv(
            path,
            read_options=pa.csv.ReadOptions(block_size=min(max(path.stat().st_size, 1), BLOCK)),
            parse_options=pa.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
            convert_options=pa.csv.ConvertOptions(
                column_types=dict.fromkeys(header, pa.string()), null_values=[""], strings_can_be_null=True
            ),
        )
    except (pa.ArrowException, UnicodeDecodeError, csv.Error) as error:
        check_encoding(path)
        _check_rows(path, delimiter)
        raise TableError(f"{path} cannot be read: {error}") from error
    if any("\n" in (column[-1].as_py() or "") for column in data.columns if len(column)):
        _check_rows(path, delimiter)  # the last row would end so, too, if a quote were never closed
    return pa.table([_numeric(column) for column in data.columns], names=data.column_names)


def _header(path: Path, delimiter: str) -> list[str]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        header = next((row for row in csv.reader(file, delimiter=delimiter) if row), None)
    if header is None:
        raise TableError(f"{path} holds nothing but empty lines")
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise TableError(f"{path}: more than one column is called {listed(map(repr, twice))}; rename them")
    return header


def check_bom(path: Path) -> None:
    """Raise a TableError if the file begins as UTF-16 does."""
    with path.open("rb") as file:
        if file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
            raise TableError(f"{path} is UTF-16, where UTF-8 is needed; save it as UTF-8")


def check_encoding(path: Path) -> None:
    """Raise a TableError that names the first line which is not UTF-8, if there is one."""
    offset = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                raise TableError(
                    f"{path}, line {number}: byte {line[error.start]:#04x} (byte {offset + error.start:,} of the file) "
                    'is not UTF-8; save the file as UTF-8 (in a spreadsheet: "CSV UTF-8"), or convert it with '
                    "iconv -f latin1 -t utf-8"
                ) from None
            offset += len(line)


def _check_rows(path: Path, delimiter: str) -> None:
    """Raise a TableError that names the lines whose number of cells is not the header's, or says that there is none."""
    expected, start, count = 0, 1, 0
    ragged: list[tuple[int, int]] = []
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.reader(file, delimiter=delimiter, strict=True)
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
