"""Separators and encodings of delimited text: found, or said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mmreg.data.dialect import TableFile
from mmreg.data.table import read_table
from mmreg.errors import TableError

CELLS = [["text", "n"], ["some, words; here", "1"], ["tab|bed", "2"], ["caf\u00e9", "3"]]


def written(separator: str, cells: list[list[str]] = CELLS) -> str:
    """Rows as text, with quotes only where they are needed."""
    rows = ([f'"{cell}"' if separator in cell else cell for cell in row] for row in cells)
    return "".join(separator.join(row) + "\n" for row in rows)


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


def rows(source: Any) -> list[list[Any]]:
    table = read_table(source)
    columns = [list(table.iter_values(name)) for name in table.columns]
    return [table.columns, *map(list, zip(*columns, strict=True))]


EXPECTED = [CELLS[0], *([text, int(number)] for text, number in CELLS[1:])]


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".txt", ".tab"])
@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_the_separator_is_found_whatever_the_ending_and_the_cells(tmp_path: Path, separator: str, ending: str) -> None:
    assert rows(write(tmp_path / f"t{ending}", written(separator))) == EXPECTED


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_the_encoding_is_found_by_its_mark(tmp_path: Path, encoding: str) -> None:
    assert rows(write(tmp_path / "t.csv", written(";"), encoding)) == EXPECTED
    big = write(tmp_path / "b.csv", "\ufeff" + written(","), "utf-16-be")
    assert rows(big) == EXPECTED


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16-le", "utf-16", "UTF8", "iso-8859-15"])
def test_separator_and_encoding_may_be_said(tmp_path: Path, encoding: str) -> None:
    path = write(tmp_path / "t.csv", written(":"), encoding)
    assert rows(TableFile(path, ":", encoding)) == EXPECTED


def test_a_mark_is_taken_for_the_encoding_that_has_it(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "\ufeff" + written(","), "utf-16-le")
    assert rows(TableFile(path, encoding="utf-16-le")) == EXPECTED
    with pytest.raises(TableError, match="has the mark of utf-16, not of latin-1; leave encoding out"):
        read_table(TableFile(path, encoding="latin-1"))


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("text\nsome, words; here\nmore, words; there\n", None),  # not read as two columns of commas
        ("text\nonly words\n", ["text"]),
        ("a,b\n1;2,3\n4;5,6\n", ["a", "b"]),
        ("a;b,c\n1;2,3\n", ["a;b", "c"]),  # the usual separator fits, so it is the one
        ("name;price\nx;1,5\ny;2,5\n", ["name", "price"]),
        ('a;b\n"x;1";y\n"1\n;2";z\n', ["a", "b"]),
        ("a;b;c\n", None),
        ("a b\tc\n1\t2\n", ["a b", "c"]),
    ],
)
def test_the_separator_is_judged_by_header_and_rows_together(
    tmp_path: Path, text: str, columns: list[str] | None
) -> None:
    path = write(tmp_path / "t.csv", text)
    if columns is not None:
        assert read_table(path).columns == columns
        return
    with pytest.raises(TableError):
        read_table(path)


def test_a_row_that_is_wrong_is_told_by_the_separator_of_the_others(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "a;b\n" + "1;2\n" * 9 + "1;2;3\n")
    with pytest.raises(TableError, match="the header has 2 columns, but line 11 has 3"):
        read_table(path)


def test_only_the_beginning_of_a_file_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mmreg.data import dialect

    looked_at: list[int] = []
    even = dialect._even
    monkeypatch.setattr(dialect, "_even", lambda text, *rest: looked_at.append(len(text)) or even(text, *rest))
    table = read_table(write(tmp_path / "t.csv", "a;b\n" + "some, words;2\n" * 100_000))
    assert table.columns == ["a", "b"]
    assert max(looked_at) == dialect.SAMPLE


def test_western_encodings_are_offered_by_the_signs_that_there_are(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="--encoding cp1252, or in the recipe by table: "):
        read_table(write(tmp_path / "t.csv", "a,b\n\u20ac,1\n", "cp1252"))
    with pytest.raises(TableError, match="--encoding latin-1"):
        read_table(write(tmp_path / "t.csv", "a,b\n\x81\u00e9,1\n", "latin-1"))
    with pytest.raises(TableError, match="looks like UTF-16 without a mark; name its encoding by --encoding utf-16-be"):
        read_table(write(tmp_path / "t.csv", "a,b\n1,2\n", "utf-16-be"))
    with pytest.raises(TableError, match=r"is not in the encoding ascii: .* name the one that it is in"):
        read_table(TableFile(write(tmp_path / "t.csv", "a,b\n\u00e9,1\n"), encoding="ascii"))


@pytest.mark.parametrize("separator", ["", ";;", '"', "\n", "\u00e9", "\0"])
def test_what_cannot_separate_is_refused(separator: str) -> None:
    with pytest.raises(TableError, match="the separator must be one character"):
        TableFile("t.csv", separator)


@pytest.mark.parametrize("encoding", ["", "latn-1", "base64", "rot13", "hex", "a\0b", "../x"])
def test_what_is_no_encoding_of_texts_is_refused(encoding: str) -> None:
    with pytest.raises(TableError, match="the encoding must be one of texts that Python knows"):
        TableFile("t.csv", encoding=encoding)


def test_a_tab_may_be_spelled() -> None:
    assert {TableFile("t", text).separator for text in ("tab", "\\t", "\t")} == {"\t"}


@pytest.mark.parametrize("given", [{"separator": ";"}, {"encoding": "latin-1"}])
def test_what_is_no_delimited_text_has_neither(tmp_path: Path, given: dict[str, str]) -> None:
    path = write(tmp_path / "t.jsonl", '{"a": 1}\n')
    with pytest.raises(TableError, match=r"t\.jsonl is no delimited text .*: it has no (separator|encoding); leave it"):
        read_table(TableFile(path, **given))


@pytest.mark.parametrize(
    ("start", "what"),
    [
        (b"PK\x03\x04", "an Excel workbook or a zip archive"),
        (b"\x1f\x8b", "compressed by gzip"),
        (b"\xd0\xcf\x11\xe0", "an old Excel workbook"),
        (b"PAR1\x15", "a Parquet file"),
        (b"SQLite format 3\0", "an SQLite database"),
    ],
)
@pytest.mark.parametrize("ending", [".csv", ".txt", ".jsonl"])
def test_other_kinds_of_files_are_told_by_how_they_begin(tmp_path: Path, start: bytes, what: str, ending: str) -> None:
    path = tmp_path / f"t{ending}"
    path.write_bytes(start + bytes(range(256)))
    with pytest.raises(TableError, match=f"t{ending} is {what}, where {ending} says that it is"):
        read_table(path)


def test_a_header_may_begin_as_such_a_file_does(tmp_path: Path) -> None:
    assert read_table(write(tmp_path / "t.csv", "PAR1,PKs\n1,2\n")).columns == ["PAR1", "PKs"]


def test_nul_bytes_are_text(tmp_path: Path) -> None:
    assert rows(write(tmp_path / "t.csv", "a,b\nx\0y,longer text\n")) == [["a", "b"], ["x\0y", "longer text"]]


def test_a_last_cell_of_several_lines_may_be_long(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", 'a,b\n1,"' + "x" * 200_000 + '\n"\n')
    assert len(rows(path)[1][1]) == 200_001


def test_a_row_that_is_too_long_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mmreg.data import delimited

    monkeypatch.setattr(delimited, "BLOCK", 1 << 20)
    assert len(read_table(write(tmp_path / "t.csv", "a,b\n" + ("x" * 1_000_000 + ",1\n") * 3))) == 3
    with pytest.raises(TableError, match="a row is longer than 1 MiB"):
        read_table(write(tmp_path / "t.csv", "a,b\n" + "x" * 3_000_000 + ",1\n"))
    with pytest.raises(TableError, match="a row is longer than 1 MiB"):
        read_table(write(tmp_path / "t.jsonl", '{"a": "' + "x" * 3_000_000 + '"}\n'))
    many_lines = '"' + ("x" * 999_999 + "\n") * 4 + '"'
    with pytest.raises(TableError, match="a row is longer than 1 MiB"):
        read_table(write(tmp_path / "t.csv", f"a,b\n{many_lines},1\n"))


def test_absent_cells_may_be_marked_by_texts(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", 'text,n\nNA,1\n"NA",NA\nnan,-\nNAN,3\n')
    table = read_table(path, missing=["NA", "-"])
    assert list(table.iter_values("text")) == [None, None, "nan", "NAN"]
    assert list(table.iter_values("n")) == [1, None, None, 3]
    assert list(read_table(path).iter_values("n")) == ["1", "NA", "-", "3"]
    held = read_table({"a": ["NA", "x", None], "b": [1, 2, 3]}, missing=["NA"])
    assert list(held.iter_values("a")) == [None, "x", None]
    assert list(read_table(read_table({"a": ["NA", "x"]}), missing=["NA"]).iter_values("a")) == [None, "x"]
