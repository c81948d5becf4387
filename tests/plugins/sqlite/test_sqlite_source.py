"""Tables of SQLite databases, by name."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

import mmreg_sqlite.reading
from mmreg.data.sources import open_table
from mmreg.errors import TableError

ROWS = [("a", 1, 0.5, b"\x00\x01"), ("b", None, 2, None), (None, 2**60, None, b"")]


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "some data.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE Products (name, number, price, image)")
        connection.executemany("INSERT INTO Products VALUES (?, ?, ?, ?)", ROWS)
        connection.execute("CREATE VIEW cheap AS SELECT name FROM Products WHERE price < 1")
        connection.execute('CREATE TABLE "odd ""name" (x)')
        connection.execute('INSERT INTO "odd ""name" VALUES (1)')
        connection.execute("CREATE TABLE empty (x)")
        connection.commit()
    monkeypatch.chdir(tmp_path)
    return path


def values(name: str) -> dict[str, list[object]]:
    table = open_table(name)
    return {column: list(table.iter_values(column)) for column in table.columns}


EXPECTED = {
    "name": ["a", "b", None],
    "number": [1, None, 2**60],
    "price": [0.5, 2.0, None],
    "image": [b"\x00\x01", None, b""],
}


def test_a_table_is_read_whole(database: Path) -> None:
    assert values(f"sqlite://{database}#Products") == EXPECTED
    assert open_table(f"sqlite://{database}#Products").name == f"sqlite://{database}#Products"


def test_a_relative_path_is_relative_to_the_working_directory(database: Path) -> None:
    assert values("sqlite://some data.db#products") == EXPECTED


@pytest.mark.parametrize("chunk", [1, 2])
def test_it_does_not_matter_how_many_rows_are_read_at_a_time(
    chunk: int, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mmreg_sqlite.reading, "CHUNK", chunk)
    assert values("sqlite://some data.db#Products") == EXPECTED


def test_views_queries_and_odd_names_are_read(database: Path) -> None:
    assert values("sqlite://some data.db#cheap") == {"name": ["a"]}
    assert values("sqlite://some data.db#select name as n, 2*price from Products where price > 1") == {
        "n": ["b"],
        "2*price": [4],
    }
    assert values('sqlite://some data.db#odd "name') == {"x": [1]}


def test_a_database_with_one_table_needs_no_name(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "one.db")) as connection:
        connection.execute("CREATE TABLE only AS SELECT 1 AS x")
        connection.commit()
    assert values(f"sqlite://{tmp_path}/one.db") == {"x": [1]}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("sqlite://some data.db", "which table of 'some data.db'.*its tables are Products, cheap, empty, odd"),
        ("sqlite://some data.db#Product", "no table 'Product'; did you mean 'Products'"),
        ("sqlite://some data.db#select x from y", "cannot be read: no such table: y"),
        ("sqlite://some data.db#empty", "has no rows"),
        ("sqlite://some data.db#select 1 as x, 2 as x", "more than one column is called 'x'"),
        ("sqlite://some data.db#select 1 as x union select 'a'", "column 'x' mixes int, str"),
        ("sqlite://other.db#x", "there is no database 'other.db' in .*; write sqlite://PATH#TABLE"),
        ("sqlite://.#x", r"there is no database '\.' in .* \(it is a folder\)"),
    ],
)
def test_what_cannot_be_read_says_why(name: str, message: str, database: Path) -> None:
    with pytest.raises(TableError, match=message):
        open_table(name)


def test_types_that_differ_between_chunks_are_named(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mmreg_sqlite.reading, "CHUNK", 1)
    with pytest.raises(TableError, match="column 'x' mixes int64, string"):
        open_table("sqlite://some data.db#select 1 as x union all select 'a'")


def test_a_file_that_is_no_database_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "no.db").write_bytes(b"this is no database, however long it is" * 40)
    with pytest.raises(TableError, match="cannot be read: file is not a database"):
        open_table(f"sqlite://{tmp_path}/no.db#x")


def test_nothing_is_ever_written(database: Path) -> None:
    before = database.read_bytes()
    for query in ("with a as (select 1) delete from Products", "select 1; drop table Products"):
        with pytest.raises(TableError):
            open_table(f"sqlite://some data.db#{query}")
    assert database.read_bytes() == before
    assert [path.name for path in database.parent.iterdir()] == [database.name]


def test_what_must_not_be_opened_as_a_database_is_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.db")
    for path, what in ((tmp_path, "a folder"), (tmp_path / "pipe.db", "a FIFO"), (Path("/dev/zero"), "a device")):
        with pytest.raises(TableError, match=rf"there is no database .* \(it is {what}\)"):
            open_table(f"sqlite://{path}")


def test_a_database_that_is_being_written_to_is_said_so(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *given, **named: connect(*given, **named, timeout=0))
    with closing(sqlite3.connect(database)) as writer:
        writer.execute("BEGIN EXCLUSIVE")
        with pytest.raises(TableError, match="database is locked; another program is writing to it"):
            open_table("sqlite://some data.db#Products")


def test_a_damaged_database_is_said_so(tmp_path: Path) -> None:
    path = tmp_path / "damaged.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE t (x)")
        connection.executemany("INSERT INTO t VALUES (?)", [("word" * 100,)] * 500)
        connection.commit()
    content = bytearray(path.read_bytes())
    content[4096 : 3 * 4096] = b"\xff" * (2 * 4096)
    path.write_bytes(content)
    with pytest.raises(TableError, match="malformed; it is damaged"):
        open_table(f"sqlite://{path}")
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(TableError, match="cannot be read"):
        open_table(f"sqlite://{path}")
