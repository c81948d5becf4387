"""Tables and files of web servers: fetched once, from where it is allowed, and told what is wrong."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest
from needs import needs
from web_server import WebServer, serving

from mmreg import registry
from mmreg.data.dialect import TableFile
from mmreg.data.prepare import Prepared, prepare
from mmreg.data.sources import open_table
from mmreg.data.table import Table
from mmreg.errors import TableError

needs("aiohttp", "remote")


def png(color: int) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (4, 4), (color, 0, 0)).save(file, "PNG")
    return file.getvalue()


def pictures(table: Table, column: str = "image") -> Prepared:
    modality = registry.build("modality", "image", size=4)
    return prepare(
        modality, table, [column], name=column, on_bad="absent", cache_dir=Path(os.environ["MMREG_CACHE_DIR"])
    )


def reds(prepared: Prepared) -> list[int | None]:
    """The red of each row's picture; None where it has none."""
    rows = np.arange(len(prepared.index))
    present = iter(prepared.arrays(rows))
    return [int(next(present)[0, 0, 0]) if there else None for there in prepared.present.tolist()]


def causes(prepared: Prepared) -> str:
    return "\n".join(cell.cause for cell in prepared.bad)


def tables() -> dict[str, bytes]:
    data = pa.table({"text": ["a", "b"], "n": [1, 2]})
    parquet, feather = io.BytesIO(), io.BytesIO()
    pa.parquet.write_table(data, parquet)
    pa.feather.write_feather(data, feather, compression="uncompressed")
    lines = b'{"text": "a", "n": 1}\n{"text": "b", "n": 2}\n'
    texts = {"csv": b"text,n\na,1\nb,2\n", "tsv": b"text\tn\na\t1\nb\t2\n", "jsonl": lines}
    return {**texts, "parquet": parquet.getvalue(), "feather": feather.getvalue()}


@pytest.mark.parametrize("ending", tables())
def test_a_table_is_read_in_every_format(ending: str, web: WebServer) -> None:
    web.files[f"/d/table.{ending}"] = tables()[ending]
    table = open_table(f"{web.address}/d/table.{ending}")
    assert {name: list(table.iter_values(name)) for name in table.columns} == {"text": ["a", "b"], "n": [1, 2]}
    assert table.name == f"{web.address}/d/table.{ending}"


def test_separator_and_encoding_are_those_that_are_said(web: WebServer) -> None:
    web.files["/t.csv"] = "a:b\né:1\n".encode("latin-1")
    table = open_table(TableFile(f"{web.address}/t.csv", ":", "latin-1"))
    assert list(table.iter_values("a")) == ["é"]


def test_an_unchanged_table_is_fetched_once_and_a_changed_one_anew(web: WebServer) -> None:
    web.files["/t.csv"] = b"a\n1\n"
    for _ in range(3):
        assert list(open_table(f"{web.address}/t.csv").iter_values("a")) == [1]
    assert web.asked["GET", "/t.csv"] == 1
    web.files["/t.csv"] = b"a\n2\n"
    assert list(open_table(f"{web.address}/t.csv").iter_values("a")) == [2]


def test_cells_are_fetched_once_beside_the_table_and_a_changed_one_is_decoded_anew(web: WebServer) -> None:
    web.files["/d/t.csv"] = f"image\nimg/1 é#.png\n../2.png\n{web.address}/2.png\n\nimg/1 é#.png\n".encode()
    web.files |= {"/d/img/1%20%C3%A9%23.png": png(10), "/2.png": png(20)}
    name = f"{web.address}/d/t.csv"
    assert reds(pictures(open_table(name))) == [10, 20, 20, 10]
    assert web.gets() == 3  # the table and two pictures, though three cells name one of these
    assert reds(pictures(open_table(name))) == [10, 20, 20, 10]
    assert web.gets() == 3
    web.files["/2.png"] = png(30)
    assert reds(pictures(open_table(name))) == [10, 30, 30, 10]
    assert web.gets() == 4


def test_files_without_an_etag_are_told_apart_by_their_content(web: WebServer) -> None:
    web.etags = False
    web.files |= {"/t.csv": b"image,n\n1.png,1\n", "/1.png": png(1)}
    first = pictures(open_table(f"{web.address}/t.csv"))
    again = pictures(open_table(f"{web.address}/t.csv"))
    assert (first.contents, reds(again)) == (again.contents, [1])
    web.files["/1.png"] = png(2)
    assert reds(pictures(open_table(f"{web.address}/t.csv"))) == [2]


def test_a_cell_with_bytes_of_its_own_names_nothing_that_is_fetched(web: WebServer) -> None:
    file = io.BytesIO()
    pa.parquet.write_table(
        pa.table({"image": [{"bytes": png(7), "path": "1.png"}, {"bytes": None, "path": "2.png"}]}), file
    )
    web.files |= {"/t.parquet": file.getvalue(), "/2.png": png(8)}
    assert reds(pictures(open_table(f"{web.address}/t.parquet"))) == [7, 8]
    assert web.asked["GET", "/1.png"] == web.asked["HEAD", "/1.png"] == 0


def test_lists_of_addresses_are_fetched(web: WebServer) -> None:
    from mmreg.data.list_cells import list_cells

    web.files |= {"/t.csv": b"image,n\n1.png|2.png,0\n", "/1.png": png(1), "/2.png": png(2)}
    cells = list_cells(open_table(f"{web.address}/t.csv"), "image", "|")
    assert reds(pictures(cells.values)) == [1, 2]


def test_what_is_wrong_with_a_cell_is_told_in_its_place(web: WebServer) -> None:
    web.files["/t.csv"] = b"image\ngone.png\nforbidden.png\nbroken.png\ncut.png\n1.png\n"
    web.files |= {"/1.png": png(1), "/cut.png": png(3)}
    web.statuses |= {"/forbidden.png": 403, "/broken.png": 500}
    web.cut.add("/cut.png")
    prepared = pictures(open_table(f"{web.address}/t.csv"))
    assert reds(prepared) == [None, None, None, None, 1]
    told = [cell.cause for cell in prepared.bad]
    assert prepared.bad[0].where == f"{web.address}/t.csv, row 1"
    assert told[0] == f"there is no {web.address}/gone.png"
    assert "may not be read with the credentials of this environment (403)" in told[1]
    assert "the server says 500" in told[2]
    assert told[3].endswith("cut.png cannot be fetched: a part of it has come, and then no more; try again")
    assert list((Path(os.environ["MMREG_CACHE_DIR"]) / "fetched").glob("*.tmp")) == []
    web.files["/gone.png"] = png(5)  # what was missing is looked for again
    assert reds(pictures(open_table(f"{web.address}/t.csv")))[0] == 5


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/gone.csv", "the table .*/gone.csv cannot be fetched: there is no .*/gone.csv"),
        ("/forbidden.csv", r"may not be read with the credentials of this environment \(403\)"),
        ("/broken.csv", "the server says 500"),
        ("/torn.csv", r"http://[^ ]*/torn.csv: .*row"),
        ("/a.xlsx", r"http://[^ ]*/a.xlsx: a table's file ends in one of"),
    ],
)
def test_what_is_wrong_with_a_table_is_told(path: str, message: str, web: WebServer) -> None:
    web.statuses |= {"/forbidden.csv": 403, "/broken.csv": 500}
    web.files |= {"/torn.csv": b"a,b\n1,2\n3\n", "/a.xlsx": b"PK"}
    with pytest.raises(TableError, match=message) as caught:
        open_table(f"{web.address}{path}")
    assert "fetched/" not in str(caught.value)


def test_a_server_that_is_not_there_is_told(web: WebServer) -> None:
    with serving() as gone:
        address = gone.address
    with pytest.raises(TableError, match=r"t\.csv cannot be fetched: its server cannot be reached"):
        open_table(f"{address}/t.csv")


def test_a_server_that_says_nothing_is_given_up(web: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmreg_remote.web.SILENT_SECONDS", 0.05)
    web.silent.add("/t.csv")
    with pytest.raises(TableError, match=r"t\.csv cannot be fetched: its server does not answer in time"):
        open_table(f"{web.address}/t.csv")


def test_nothing_is_larger_than_the_limit_whatever_the_server_says(
    web: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MMREG_FETCH_LIMIT", "1MB")
    web.endless.add("/endless.csv")
    web.files["/large.csv"] = bytes(1_000_001)
    for path in ("/endless.csv", "/large.csv"):
        with pytest.raises(TableError, match=r"is larger than 1\.0 MB.*MMREG_FETCH_LIMIT"):
            open_table(f"{web.address}{path}")
    assert web.asked["GET", "/large.csv"] == 0
    fetched = Path(os.environ["MMREG_CACHE_DIR"]) / "fetched"
    assert not fetched.exists() or list(fetched.rglob("*.*")) == []


def test_cells_elsewhere_are_fetched_only_where_that_is_allowed(web: WebServer) -> None:
    with serving() as other:
        other.files["/a/1.png"] = png(9)
        cells = [
            f"{other.address}/a/1.png",
            "http://169.254.169.254/latest/meta-data.png",
            "file:///etc/passwd",
            "/etc/passwd",
            "../../../etc/passwd",
            f"{web.address}/a/../b.png",
            f"http://127.0.0.1:{web.server_address[1]}@{other.address[7:]}/a/1.png",
            f"{web.address}\\@{other.address[7:]}/a/1.png",
            "memory://bucket/1.png",
        ]
        web.files["/d/t.csv"] = ("image\n" + "\n".join(cells) + "\n").encode()
        prepared = pictures(open_table(f"{web.address}/d/t.csv"))
        assert reds(prepared) == [None] * len(cells)
        told = [cell.cause for cell in prepared.bad]
        assert told[0] == (
            f"files are fetched from {web.address}/ alone, and not from {other.address}/; where you trust the table, "
            f"allow it in the recipe: remote: [{other.address}/]"
        )
        assert "not from http://169.254.169.254/" in told[1]
        assert "not from file:///" in told[2]
        assert "absolute path" in told[3]
        assert "leads out of" in told[4]
        assert "leads upwards" in told[5]
        assert "name or password" in told[6]
        assert other.asked == {}
        allowed = pictures(open_table(f"{web.address}/d/t.csv", remote=[f"{other.address}/a"]))
        assert reds(allowed)[0] == 9
        assert reds(pictures(open_table(f"{web.address}/d/t.csv", remote=[f"{other.address}/b"])))[0] is None


def test_a_table_on_this_machine_fetches_nothing_unless_told_to(web: WebServer, tmp_path: Path) -> None:
    web.files["/1.png"] = png(4)
    (tmp_path / "t.csv").write_text(f"image,n\n{web.address}/1.png,1\n2.png,2\n")
    (tmp_path / "2.png").write_bytes(png(6))
    for source in (tmp_path / "t.csv", {"image": [f"{web.address}/1.png", str(tmp_path / "2.png")]}):
        prepared = pictures(open_table(source))
        assert reds(prepared) == [None, 6]
        assert "files elsewhere are not fetched, and not from http://127.0.0.1" in causes(prepared)
        assert web.asked == {}
    assert reds(pictures(open_table(tmp_path / "t.csv", remote=[web.address]))) == [4, 6]


def test_no_redirect_to_another_host_is_followed_unless_that_is_allowed(web: WebServer) -> None:
    with serving() as other:
        other.files |= {"/secret.csv": b"a\n1\n", "/deep/1.csv": b"a\n2\n"}
        web.redirects |= {
            "/t.csv": f"{other.address}/secret.csv",
            "/here.csv": "/there.csv",
            "/deep.csv": f"{other.address}/deep/1.csv",
            "/loop.csv": "/loop.csv",
        }
        web.files["/there.csv"] = b"a\n3\n"
        with pytest.raises(TableError, match=rf"leads to another host, {other.address}, which is not followed"):
            open_table(f"{web.address}/t.csv", remote=[f"{other.address}/deep/"])
        assert other.asked == {}
        assert list(open_table(f"{web.address}/here.csv").iter_values("a")) == [3]
        table = open_table(f"{web.address}/deep.csv", remote=[f"{other.address}/deep/"])
        assert list(table.iter_values("a")) == [2]
        with pytest.raises(
            TableError, match="cannot be fetched: its server leads from one address to the next without an end"
        ):
            open_table(f"{web.address}/loop.csv")
        web.redirect_header = "URI"  # which aiohttp follows as well
        with pytest.raises(TableError, match="leads to another host"):
            open_table(f"{web.address}/t.csv")
        assert other.asked["GET", "/secret.csv"] == 0
    web.redirects["/away.csv"] = "file:///etc/passwd"
    web.redirect_header = "Location"
    with pytest.raises(TableError, match=r"leads to file://, which is no place of the web and is never followed") as no:
        open_table(f"{web.address}/away.csv")
    assert "remote:" not in str(no.value)


@pytest.mark.parametrize(
    "address",
    [
        "https://user:hunter2@host/t.csv",
        "https://hunter2@host/t.csv",
        "s3://key:hunter2@bucket/t.csv",
        "https://host/t.csv?X-Amz-Signature=hunter2",
        "https://host/t.csv?a=1&access_token=hunter2",
        "https://host/t.csv?sig=hunter2",
    ],
)
def test_an_address_with_a_credential_is_refused_and_not_shown(address: str, web: WebServer) -> None:
    with pytest.raises(TableError, match="credentials are read from the environment alone") as caught:
        open_table(address)
    assert "hunter2" not in str(caught.value)


def test_a_signed_cell_is_fetched_and_its_signature_is_shown_nowhere(web: WebServer, tmp_path: Path) -> None:
    web.files |= {"/1.png": png(4), "/t.csv": b"image,n\n1.png,0\n"}
    signed = [f"{web.address}/1.png?X-Amz-Signature=hunter2", f"{web.address}/no.png?sig=hunter2"]
    prepared = pictures(open_table({"image": signed}, remote=[web.address]))
    assert reds(prepared) == [4, None]
    assert "hunter2" not in str(prepared.bad)
    for path in (tmp_path / "cache").rglob("*"):
        assert not path.is_file() or b"hunter2" not in path.read_bytes()


def test_a_package_that_is_missing_is_told_in_a_cell_and_of_a_table(
    web: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(TableError, match="'gcsfs' is needed to fetch it, and is not installed: pip install gcsfs"):
        open_table("gs://bucket/t.csv")
    monkeypatch.setitem(sys.modules, "fsspec", None)
    prepared = pictures(open_table({"image": ["s3://bucket/1.png"]}, remote=["s3://bucket/"]))
    assert "'fsspec' is needed to fetch it" in causes(prepared)


def test_names_and_passwords_are_those_of_the_netrc(
    web: WebServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password hunter2\n")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    web.files["/t.csv"] = b"a\n1\n"
    open_table(f"{web.address}/t.csv")
    assert web.headers[-1]["Authorization"] == "Basic bWU6aHVudGVyMg=="
    for path in (tmp_path / "cache").rglob("*"):
        assert not path.is_file() or b"hunter2" not in path.read_bytes()


@pytest.mark.parametrize(
    ("gives", "message"),
    [
        (lambda addresses, **_: [], r"must give a path or a text for each of 1 address of http://"),
        (lambda addresses, **_: [b"x"], "must give a path or a text"),
        (lambda addresses, **_: 1 / 0, "cannot fetch from http://: ZeroDivisionError"),
        (lambda addresses, **_: ["why not"], "cannot be fetched: why not"),
    ],
)
def test_a_plugin_that_fetches_wrongly_is_named(
    gives: Any, message: str, web: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mmreg_remote.fetching.fetch", gives)
    with pytest.raises(TableError, match=message):
        open_table(f"{web.address}/t.csv")


def test_a_shard_elsewhere_is_a_table(web: WebServer) -> None:
    import tarfile

    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, content in (("0.png", png(5)), ("0.cls", b"1")):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    web.files["/s/train-000.tar"] = file.getvalue()
    table = open_table(f"{web.address}/s/train-000.tar")
    assert (table.name, list(table.iter_values("cls"))) == (f"{web.address}/s/train-000.tar", [1])
    assert reds(pictures(table, "png")) == [5]


def test_many_files_are_fetched_at_a_time(web: WebServer) -> None:
    web.files["/t.csv"] = ("image\n" + "".join(f"{n}.png\n" for n in range(40))).encode()
    web.files |= {f"/{n}.png": png(n) for n in range(40)}
    assert reds(pictures(open_table(f"{web.address}/t.csv"))) == list(range(40))


def test_files_in_the_memory_of_fsspec_are_fetched(web: WebServer) -> None:
    import fsspec

    system: Any = fsspec.filesystem("memory")
    try:
        system.pipe({"/bucket/d/t.csv": b"image,n\n1.png,1\n../2.png,2\n", "/bucket/d/1.png": png(1)})
        system.pipe("/bucket/2.png", png(2))
        assert reds(pictures(open_table("memory://bucket/d/t.csv"))) == [1, 2]
        system.pipe("/bucket/2.png", png(3))
        assert reds(pictures(open_table("memory://bucket/d/t.csv"))) == [1, 3]
    finally:
        system.rm("/bucket", recursive=True)
