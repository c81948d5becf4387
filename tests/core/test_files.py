"""Files written whole; tables as the text of a file: read back by the standard library, or as Markdown has it."""

from __future__ import annotations

import csv
import io
import json
import os
import socket
from pathlib import Path

import pytest

from mmreg.files import csv_text, irregular, markdown_table, unwritable, write_text


def read_csv(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_a_csv_cell_with_separators_quotes_and_newlines_comes_back_as_it_was() -> None:
    cells = {"a": "one, two", "b": 'say "yes"', "c": "two\nlines", "d": " blank ", "é;": "ü"}
    assert read_csv(csv_text([cells])) == [cells]


def test_csv_columns_are_those_of_all_rows_and_what_a_row_lacks_is_empty() -> None:
    text = csv_text([{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": None, "accuracy": 0.1 + 0.2}])
    assert text == "epoch,loss,accuracy\n1,0.5,\n2,,0.30000000000000004\n"


def test_csv_columns_that_are_asked_for_are_all_there_is() -> None:
    assert csv_text(({"a": n, "b": -n} for n in (1, 2)), ["b", "c"]) == "b,c\n-1,\n-2,\n"
    assert csv_text([], ["a", "b"]) == "a,b\n"


def test_lists_and_mappings_in_a_csv_cell_are_json() -> None:
    nested = {"labels": ["x, y", "ü", None], "shares": {"a": [0.5, {"b": 1}]}, "pair": (1, 2)}
    (row,) = read_csv(csv_text([nested]))
    assert {name: json.loads(text) for name, text in row.items()} == {**nested, "pair": [1, 2]}
    assert "ü" in row["labels"]


def test_a_markdown_table_has_a_line_for_the_columns_and_one_for_each_row() -> None:
    rows = [{"split": "test", "accuracy": 2 / 3}, {"split": None, "rows": 2000}]
    assert markdown_table(rows).splitlines() == [
        "| split | accuracy | rows |",
        "| --- | --- | --- |",
        "| test | 0.6667 |  |",
        "|  |  | 2000 |",
    ]


def test_a_bar_or_a_newline_in_a_cell_does_not_end_it() -> None:
    header, _, *lines = markdown_table([{"a|b": "x | y", "c": "one\ntwo\r\nthree"}]).splitlines()
    assert header == "| a\\|b | c |"
    assert lines == ["| x \\| y | one two three |"]


def test_without_rows_there_is_no_markdown_table() -> None:
    assert markdown_table([]) == ""


def test_what_must_not_be_opened_as_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as there:
        there.bind(str(tmp_path / "socket"))
    found = {name: irregular(tmp_path / name) for name in ("file", "pipe", "socket", "nothing", "x" * 300)}
    assert found == {"file": "", "pipe": "a FIFO", "socket": "a socket", "nothing": "", "x" * 300: ""}
    assert (irregular(tmp_path), irregular(Path("/dev/zero"))) == ("a folder", "a device")


def test_a_file_is_on_the_disk_before_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda descriptor: (events.append("sync"), fsync(descriptor)))
    monkeypatch.setattr(os, "replace", lambda *paths: (events.append("name"), replace(*paths)))
    write_text(tmp_path / "file", "whole")
    assert events == ["sync", "name", "sync"]
    assert (tmp_path / "file").read_text() == "whole"


def test_a_folder_that_another_process_makes_meanwhile_is_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exists = Path.exists

    def making(path: Path) -> bool:
        if path == tmp_path / "made":
            path.mkdir(exist_ok=True)
        return exists(path)

    monkeypatch.setattr(Path, "exists", making)
    assert unwritable(tmp_path / "made" / "inner") is None
    (tmp_path / "file").touch()
    assert unwritable(tmp_path / "file" / "inner") == f"{tmp_path / 'file'} is a file, not a folder"


def test_nothing_can_be_written_below_a_link_that_leads_nowhere(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "nowhere")
    assert unwritable(link / "inner") == f"{link} is a link that leads nowhere"
    (tmp_path / "nowhere").mkdir()
    assert unwritable(link / "inner") is None


def test_a_folder_that_became_a_file_meanwhile_is_told_by_the_files_own_name(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("no folder")
    with pytest.raises(NotADirectoryError) as told:
        write_text(tmp_path / "checkpoints" / "best", "text")
    assert str(told.value.filename) == str(tmp_path / "checkpoints" / "best")
