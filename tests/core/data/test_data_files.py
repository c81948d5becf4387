"""Reading tables from files."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest

from mmreg.data.table import read_table
from mmreg.errors import TableError


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def column(path: Path, name: str) -> list[object]:
    return list(read_table(path).iter_values(name))


ROWS = {"name": ["a", "b", None], "size": [1, 2, 3], "weight": [0.5, None, 2.0]}


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".jsonl", ".ndjson", ".parquet", ".arrow", ".feather", "stream"])
def test_every_format_gives_the_same_values(tmp_path: Path, ending: str) -> None:
    data = pa.table(ROWS)
    path = tmp_path / f"t{ending if ending != 'stream' else '.arrow'}"
    if ending in (".csv", ".tsv"):
        mark = "," if ending == ".csv" else "\t"
        write(path, "name,size,weight\na,1,0.5\nb,2,\n,3,2.0\n".replace(",", mark))
    elif ending in (".jsonl", ".ndjson"):
        write(path, "".join(json.dumps(row) + "\n" for row in data.to_pylist()))
    elif ending == ".parquet":
        pa.parquet.write_table(data, path)
    elif ending == "stream":
        with pa.ipc.new_stream(path, data.schema) as out:
            out.write_table(data)
    else:
        pa.feather.write_feather(data, path)
    table = read_table(path)
    assert table.columns == ["name", "size", "weight"]
    assert {name: list(table.iter_values(name)) for name in table.columns} == ROWS
    assert table.folder == tmp_path
    assert table.name == path.name


def test_the_ending_may_be_in_capitals_and_the_path_a_text(tmp_path: Path) -> None:
    write(tmp_path / "T.CSV", "a\n1\n")
    assert len(read_table(str(tmp_path / "T.CSV"))) == 1


def test_a_folder_for_paths_can_be_given(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "a\n1\n")
    assert read_table(path, folder=tmp_path / "media").folder == tmp_path / "media"


def test_csv_takes_only_the_empty_cell_for_null(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", 'text,n\nNA,1\nnull,\nNone,3\n"",4\n,5\nnan,6\n')
    assert column(path, "text") == ["NA", "null", "None", None, None, "nan"]
    assert column(path, "n") == [1, None, 3, 4, 5, 6]


def test_csv_keeps_leading_zeros_and_long_numbers_as_text(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "id,digits,price\n007,12345678901234567890,1.50\n12,1,2\n")
    assert column(path, "id") == ["007", "12"]
    assert column(path, "digits") == ["12345678901234567890", "1"]
    assert column(path, "price") == [1.5, 2.0]


def test_csv_keeps_dates_and_booleans_as_text(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "day,yes\n2020-01-01,true\n2020-01-02,false\n")
    assert column(path, "day") == ["2020-01-01", "2020-01-02"]
    assert column(path, "yes") == ["true", "false"]


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["0", "-3", "12"], [0, -3, 12]),
        (["1e-3", "-.5", "2."], [0.001, -0.5, 2.0]),
        (["1", "inf", "-Infinity"], [1.0, np.inf, -np.inf]),
        (["nan", "inf"], ["nan", "inf"]),
        (["1", "x"], ["1", "x"]),
        (["1 ", "2"], ["1 ", "2"]),
    ],
)
def test_csv_columns_are_numbers_only_if_all_cells_are(
    tmp_path: Path, cells: list[str], expected: list[object]
) -> None:
    assert column(write(tmp_path / "t.csv", "\n".join(["x", *cells]) + "\n"), "x") == expected


def test_csv_reads_nan_beside_numbers_as_a_number(tmp_path: Path) -> None:
    values = column(write(tmp_path / "t.csv", "x\n1\nNaN\n"), "x")
    assert values[0] == 1.0
    assert np.isnan(values[1])  # type: ignore[call-overload]


def test_csv_with_bom_quotes_line_ends_and_blank_lines(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", b'\xef\xbb\xbfa,b\r\n"x, y","line 1\nline 2"\r\n\r\n"say ""hi""",5" screen\r\n')
    assert column(path, "a") == ["x, y", 'say "hi"']
    assert column(path, "b") == ["line 1\nline 2", '5" screen']
    assert read_table(path).where(1) == "t.csv, row 2"


def test_csv_with_cells_longer_than_a_usual_block(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "a,b\n" + "x" * 3_000_000 + ",1\ny,2\n")
    assert [len(str(value)) for value in read_table(path).iter_values("a")] == [3_000_000, 1]


def test_ragged_rows_are_named_by_line(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", 'a,b\n"1\n2",3\n1,2,3\n4,5\n6\n')
    with pytest.raises(
        TableError, match=r"t\.csv: the header has 2 columns, but line 4 has 3, line 6 has 1; put quotes"
    ):
        read_table(path)


@pytest.mark.parametrize("ending", ["", "\n"])
def test_a_quote_that_never_ends_is_named_by_line(tmp_path: Path, ending: str) -> None:
    path = write(tmp_path / "t.csv", f'a,b\n1,2\n3,"4\n5,6\n7,8{ending}')
    with pytest.raises(TableError, match=r"line 3: a quote opens that never ends"):
        read_table(path)


def test_a_last_cell_may_hold_line_ends(tmp_path: Path) -> None:
    assert column(write(tmp_path / "t.csv", 'a\n"x\ny\n"\n'), "a") == ["x\ny\n"]


def test_a_wrong_encoding_is_named_by_line_and_byte(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "a,b\n1,x\n2,caf\u00e9\n".encode("latin1"))
    with pytest.raises(
        TableError,
        match=r"line 3: byte 0xe9 \(byte 13 of the file\) is not UTF-8; save the file as .*, "
        r"or name its encoding by --encoding cp1252, or in the recipe by table: {path: t\.csv, encoding: cp1252}",
    ):
        read_table(path)
    path = write(tmp_path / "h.csv", "caf\u00e9\n1\n".encode("latin1"))
    with pytest.raises(TableError, match="line 1: byte 0xe9"):
        read_table(path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", "", "is empty"),
        ("t.csv", "\n\n", "nothing but empty lines"),
        ("t.csv", "a,b\n", "has no rows"),
        ("t.csv", "a,b,a\n1,2,3\n", "more than one column is called 'a'"),
        ("t.jsonl", "", "is empty"),
        ("t.jsonl", '{"a": 1}\n{"a": \n', "line 2 is no JSON"),
        ("t.jsonl", '{"a": 1}\n[1]\n', "line 2 holds a list"),
        ("t.jsonl", '{"a": 1}\n{"a": "x"}\n', "changed from number to string"),
        ("t.parquet", "nothing of the kind", r"cannot be read as \.parquet"),
        ("t.arrow", "nothing of the kind", r"cannot be read as \.arrow"),
        ("t.xlsx", "PK", r"ends in one of \.csv, \.tsv, .*, not in '\.xlsx'"),
    ],
)
def test_broken_files_are_table_errors(tmp_path: Path, name: str, content: str, message: str) -> None:
    with pytest.raises(TableError, match=message):
        read_table(write(tmp_path / name, content))


def test_a_missing_file_is_named_with_its_near_sibling(tmp_path: Path) -> None:
    write(tmp_path / "manifest.csv", "a\n1\n")
    with pytest.raises(TableError, match=r"no table .*manifst\.csv; did you mean 'manifest\.csv'\?"):
        read_table(tmp_path / "manifst.csv")
    with pytest.raises(TableError, match="nor a folder"):
        read_table(tmp_path / "nowhere" / "manifest.csv")


def test_a_folder_is_refused_and_the_tables_in_it_named(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", "a\n1\n")
    with pytest.raises(TableError, match=r"is a folder; name the table's file in it: a\.csv"):
        read_table(tmp_path)


def test_json_keeps_times_as_text_and_reads_lists(tmp_path: Path) -> None:
    lines = ['{"t": "2020-01-01 00:00:00", "l": [1, 2], "s": {"u": "2020-01-01"}}', "", '{"l": null}']
    table = read_table(write(tmp_path / "t.jsonl", b"\xef\xbb\xbf" + "\n".join(lines).encode()))
    assert list(table.iter_values("t")) == ["2020-01-01 00:00:00", None]
    assert list(table.iter_values("l")) == [[1, 2], None]
    assert list(table.iter_values("s")) == [{"u": "2020-01-01"}, None]
