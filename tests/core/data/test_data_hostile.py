"""Files that were made, or cut, to break their reader: a message, and neither a crash nor more memory than there is."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from mmreg.data import room
from mmreg.data.json_lines import DEEPEST
from mmreg.data.parquet_footer import read_footer
from mmreg.data.table import read_table
from mmreg.errors import TableError

GIB = 1 << 30


def write_arrow(path: Path, table: pa.Table) -> Path:
    with pa.ipc.new_file(path, table.schema) as file:
        file.write_table(table)
    return path


def in_a_process(script: str, *, memory: int | None = None, seconds: int = 120) -> str:
    """What a process prints that may take so many more bytes of memory, and seconds of a processor."""
    pytest.importorskip("resource")
    if not Path("/proc/self/statm").exists():
        pytest.skip("needs Linux")
    limits = "" if memory is None else f"resource.setrlimit(resource.RLIMIT_AS, (used + {memory},) * 2)"
    program = (
        "import resource\n"
        "from mmreg.data.table import Table, concat_tables, read_table\n"
        "from mmreg.errors import TableError\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        f"{limits}\nresource.setrlimit(resource.RLIMIT_CPU, ({seconds},) * 2)\n{textwrap.dedent(script)}"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, f"{done.returncode}: {done.stderr[-2000:]}"
    return done.stdout


def test_an_arrow_file_whose_offsets_lie_is_refused(tmp_path: Path) -> None:
    path = write_arrow(tmp_path / "t.arrow", pa.table({"a": ["x" * 9, "y" * 9, "z" * 9]}))
    data = path.read_bytes()
    offsets = np.array([0, 9, 18, 27], np.int32).tobytes()
    assert data.count(offsets) == 1
    path.write_bytes(data.replace(offsets, np.array([0, 9, 2**30, 2**30 + 9], np.int32).tobytes()))
    script = f"""
    try:
        list(read_table({str(path)!r}).iter_values("a"))
    except TableError as error:
        print(error)
    """
    assert "t.arrow, column 'a': the file is damaged" in in_a_process(script)


@pytest.mark.parametrize("ending", ["arrow", "parquet"])
def test_a_file_that_is_cut_while_it_is_used_ends_no_process(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"t.{ending}"
    data = pa.table({"a": [f"text number {number}" for number in range(100_000)]})
    if ending == "arrow":
        write_arrow(path, data)
    else:
        pa.parquet.write_table(data, path, compression="none", use_dictionary=False)
    script = f"""
    import os
    table = read_table({str(path)!r})
    os.truncate({str(path)!r}, 100)
    print(len(list(table.iter_values("a"))))
    """
    assert in_a_process(script) == "100000\n"


@pytest.mark.parametrize("ending", ["arrow", "parquet"])
def test_texts_that_are_not_utf8_are_named_by_row_and_column(tmp_path: Path, ending: str) -> None:
    chunk = pa.array([b"fine", None, "caf\u00e9".encode("latin-1")]).view(pa.string())
    data = pa.table({"a": pa.chunked_array([["x", "y"], chunk])})
    path = tmp_path / f"t.{ending}"
    write_arrow(path, data) if ending == "arrow" else pa.parquet.write_table(data, path)
    with pytest.raises(TableError, match=rf"t\.{ending}, row 5, column 'a': the text is not UTF-8"):
        read_table(path)


def test_texts_of_json_lines_that_are_not_utf8_are_named_by_line(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_bytes('{"a": "x"}\n{"a": "\u00e9"}\n'.encode("latin-1"))
    with pytest.raises(TableError, match=r"line 2: byte 0xe9 .* is not UTF-8; save the file as UTF-8 .* iconv"):
        read_table(tmp_path / "t.jsonl")
    (tmp_path / "t.jsonl").write_bytes('{"\u00e9": "x"}\n'.encode("latin-1"))
    with pytest.raises(TableError, match="line 1: byte 0xe9"):
        read_table(tmp_path / "t.jsonl")


def test_names_that_are_not_utf8_are_told(tmp_path: Path) -> None:
    path = write_arrow(tmp_path / "t.arrow", pa.table({"name_of_a_column": [1]}))
    path.write_bytes(path.read_bytes().replace(b"name_of", b"\xff" * 7))
    with pytest.raises(TableError, match="the name of a column"):
        read_table(path)


def test_the_footer_is_read_as_arrow_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    columns = {
        "text": ["x", "y", None, "y"] * 5,
        "lists": [["a", None], [], None, ["b"]] * 5,
        "struct": [{"a": 1, "b": b"x"}] * 20,
        "fixed": pa.array([b"ab"] * 20, pa.binary(2)),
        "flag": [True] * 20,
        "x": [0.5] * 20,
    }
    pa.parquet.write_table(pa.table(columns), path, row_group_size=7, use_dictionary=["text", "x"])
    rows, chunks = read_footer(path)
    footer = pa.parquet.read_metadata(path)
    assert rows == footer.num_rows
    groups = (footer.row_group(number) for number in range(footer.num_row_groups))
    expected = [group.column(at) for group in groups for at in range(group.num_columns)]
    assert [chunk.path for chunk in chunks] == [column.path_in_schema for column in expected]
    for chunk, column in zip(chunks, expected, strict=True):
        assert chunk.size >= column.total_uncompressed_size
        in_dictionary = column.path_in_schema == "text"
        assert chunk.repeated == in_dictionary * column.num_values * column.total_uncompressed_size


def test_a_damaged_footer_is_told(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "t.parquet", a=[1])
    data = path.read_bytes()
    (tmp_path / "cut.parquet").write_bytes(data[:40] + data[-20:])
    with pytest.raises(TableError, match=r"cut\.parquet cannot be read"):
        read_table(tmp_path / "cut.parquet")
    for content in (b"", b"\x1c" * 50, b"\x19\xff" + b"\xff" * 9, b"\x18\x7f"):
        (tmp_path / "f").write_bytes(content + len(content).to_bytes(4, "little") + b"PAR1")
        with pytest.raises(ValueError, match="incomplete"):
            read_footer(tmp_path / "f")


def test_a_table_without_columns_is_refused(tmp_path: Path) -> None:
    path = write_arrow(tmp_path / "t.arrow", pa.table({"a": [1, 2]}).select([]))
    with pytest.raises(TableError, match="has no columns"):
        read_table(path)


def free(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Let so many bytes of memory be all that there are."""
    for module in ("room", "columnar"):
        monkeypatch.setattr(f"mmreg.data.{module}.free_memory", lambda: number)


def write_parquet(path: Path, **columns: Any) -> Path:
    pa.parquet.write_table(pa.table(columns), path, compression="zstd")
    return path


@pytest.mark.parametrize(
    "column",
    [
        pa.nulls(1_000_000),
        pa.array(np.zeros(1_000_000, np.int64)),
        pa.array(["x" * 5_000_000, None]),
        pa.array(["x" * 100_000] * 100),
        pa.array([["x" * 100_000] * 50]),
    ],
    ids=["rows", "numbers", "a long text", "a text in every row", "a text in a list"],
)
def test_what_would_not_fit_into_memory_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, column: pa.Array
) -> None:
    path = write_parquet(tmp_path / "t.parquet", a=column)
    assert path.stat().st_size < 100_000
    free(monkeypatch, 2_000_000)
    monkeypatch.setattr("mmreg.data.columnar.validated", lambda *_: pytest.fail("it was read"))
    with pytest.raises(TableError, match=r"t\.parquet says that it holds values which take .* GiB of memory, and"):
        read_table(path)


def test_a_bomb_of_one_repeated_text_takes_no_memory(tmp_path: Path) -> None:
    """Forty gigabytes in a file of some kilobytes, read by a process that may have four more than it has."""
    values = pa.DictionaryArray.from_arrays(pa.array(np.zeros(10_000, np.int32)), pa.array(["x" * 4_000_000]))
    path = tmp_path / "t.parquet"
    pa.parquet.write_table(
        pa.table({"a": values}), path, compression="zstd", store_schema=False, dictionary_pagesize_limit=GIB
    )
    assert path.stat().st_size < 10_000
    script = f"""
    try:
        read_table({str(path)!r})
    except TableError as error:
        print(error)
    """
    assert "says that it holds values which take 37" in in_a_process(script, memory=4 * GIB)


def test_a_dictionary_that_repeats_little_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"text number {number % 1000}" for number in range(20_000)]
    path = write_parquet(tmp_path / "t.parquet", a=texts, n=[["x", "y"]] * 20_000)
    free(monkeypatch, 4_000_000)
    assert list(read_table(path).iter_values("a")) == texts


def test_an_arrow_file_of_very_many_rows_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_arrow(tmp_path / "t.arrow", pa.table({"a": pa.nulls(1_000_000)}))
    assert path.stat().st_size < 1000
    free(monkeypatch, 2_000_000)
    with pytest.raises(TableError, match=r"says that it holds values which take"):
        read_table(path)


def test_the_memory_that_there_is_is_known() -> None:
    assert 1 << 20 < room.free_memory() <= sys.maxsize


@pytest.mark.parametrize("depth", [100, 1_000_000])
@pytest.mark.parametrize("shape", ["in a line", "over lines"])
def test_json_that_is_nested_too_deeply_is_refused(tmp_path: Path, depth: int, shape: str) -> None:
    end = "" if shape == "in a line" else "\n"
    path = tmp_path / "t.jsonl"
    path.write_text('{"a": "[[["}\n' + '{"a":' + end + f"[{end}" * depth + "]" * depth + "}\n")
    with pytest.raises(TableError, match=rf"t\.jsonl, line \d+: more than {DEEPEST} lists and objects within each"):
        read_table(path)


def test_brackets_within_texts_are_no_nesting(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text('{"a": "' + "[{" * 1000 + '", "b": "\\"' + "[" * 1000 + '\\\\"}\n')
    assert [len(str(value)) for value in read_table(path).iter_values("a")] == [2000]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs FIFOs")
@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet", "arrow", "xlsx"])
def test_what_is_no_file_is_not_opened(tmp_path: Path, ending: str) -> None:
    pipe, link = tmp_path / f"pipe.{ending}", tmp_path / f"link.{ending}"
    os.mkfifo(pipe)
    link.symlink_to("/dev/zero")
    with pytest.raises(TableError, match=rf"pipe\.{ending} is a FIFO, where a table's file is needed"):
        read_table(pipe)
    with pytest.raises(TableError, match=rf"link\.{ending} is a device"):
        read_table(link)
    with socket.socket(socket.AF_UNIX) as server:
        os.chdir(tmp_path)
        server.bind(f"s.{ending}")
        with pytest.raises(TableError, match="is a socket"):
            read_table(tmp_path / f"s.{ending}")


@pytest.mark.parametrize("path", ["x" * 5000 + ".csv", "a\0b.csv", "a\nb.csv"])
def test_names_that_no_file_has_are_refused(path: str) -> None:
    with pytest.raises(TableError):
        read_table(path)


def test_a_name_that_is_not_utf8_is_refused() -> None:
    with pytest.raises(TableError, match=r"the path 'a\\udcff\.csv' is not UTF-8; rename"):
        read_table("a\udcff.csv")


def test_very_many_columns_take_linear_time() -> None:
    """What took quadratic time took minutes of the processor for so many."""
    script = """
    import pyarrow as pa
    import mmreg.experiment
    names = [f"c{number}" for number in range(40_000)]
    held = pa.table([pa.array(["x", "y"]).dictionary_encode()] * len(names), names=names)
    table = Table(held)
    table.with_empty([*names, *(name + "_" for name in names)])
    concat_tables([table, table.select([0])])
    for name in names:
        table.column(name)
    recipe = mmreg.experiment.Recipe(
        {"table": "t", "target": {"column": "c0"}, "modalities": {"text": {"columns": names}}}
    )
    print(len(mmreg.recipe.columns.missing_columns(recipe, table)))
    """
    assert in_a_process(script, seconds=60) == "0\n"


@pytest.mark.parametrize("ending", ["parquet", "arrow", "csv", "jsonl"])
def test_a_file_with_flipped_bytes_is_a_table_or_an_error(tmp_path: Path, ending: str) -> None:
    table = pa.table({"a": [f"text {n}" for n in range(20)], "b": [[n] for n in range(20)], "c": ["u", "v"] * 10})
    path = tmp_path / f"t.{ending}"
    if ending == "parquet":
        pa.parquet.write_table(table, path)
    elif ending == "arrow":
        write_arrow(path, table)
    elif ending == "csv":
        path.write_text("a;b;c\n" + "".join(f'"text {n}";{n};u\n' for n in range(20)))
    else:
        path.write_text("".join(f'{{"a": "text {n}", "b": [{n}], "c": "u"}}\n' for n in range(20)))
    script = f"""
    import random
    from pathlib import Path
    data, outcomes = Path({str(path)!r}).read_bytes(), set()
    for seed in range(60):
        draw, changed = random.Random(seed), bytearray(data)
        for _ in range(draw.choice([1, 2, 8])):
            changed[draw.randrange(len(changed))] = draw.randrange(256)
        Path({str(path)!r}).write_bytes(changed)
        try:
            table = read_table({str(path)!r})
            for column in table.columns:
                list(table.iter_values(column))
            table.fingerprint()
        except TableError:
            continue
    print("done")
    """
    assert in_a_process(script) == "done\n"
