"""Tables and files of S3: of a plain server that speaks its part of reading, and of moto's where that is installed."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from web_server import WebServer, serving

from mmreg import registry
from mmreg.data.prepare import prepare
from mmreg.data.sources import open_table
from mmreg.errors import TableError

pytest.importorskip("s3fs", reason="needs s3fs")
SECRET = "a-key-that-nobody-may-see"


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    import fsspec

    monkeypatch.setenv("MMREG_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    yield
    fsspec.get_filesystem_class("s3").clear_instance_cache()


@pytest.fixture
def server(settings: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[WebServer]:
    from fsspec.config import conf

    with serving() as server:
        monkeypatch.setitem(conf, "s3", {"endpoint_url": server.address})
        yield server


def png(color: int) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (4, 4), (color, 0, 0)).save(file, "PNG")
    return file.getvalue()


def reds(name: Any, **options: Any) -> list[int | str]:
    """The red of each row's picture, or why there is none."""
    table = open_table(name, **options)
    modality = registry.build("modality", "image", size=4)
    cache = Path(os.environ["MMREG_CACHE_DIR"])
    prepared = prepare(modality, table, ["image"], name="image", on_bad="absent", cache_dir=cache)
    causes = {cell.row: cell.cause for cell in prepared.bad}
    values = iter(prepared.arrays(prepared.present.nonzero()[0]))
    return [causes[row] if row in causes else int(next(values)[0, 0, 0]) for row in range(len(table))]


def test_a_table_and_its_files_are_fetched_once_each(server: WebServer, tmp_path: Path) -> None:
    server.files["/bucket/d/t.csv"] = b"image,n\n1 a.png,1\ns3://bucket/2.png,2\ns3://other/3.png,3\n"
    server.files |= {"/bucket/d/1%20a.png": png(1), "/bucket/2.png": png(2), "/other/3.png": png(3)}
    told = reds("s3://bucket/d/t.csv")
    assert told[:2] == [1, 2]
    assert "fetched from s3://bucket/ alone, and not from s3://other/" in str(told[2])
    gets = server.gets()
    assert gets == 3
    assert reds("s3://bucket/d/t.csv", remote=["s3://other/"])[2] == 3
    assert server.gets() == gets + 1
    server.files["/bucket/2.png"] = png(9)
    assert reds("s3://bucket/d/t.csv")[:2] == [1, 9]
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or SECRET.encode() not in path.read_bytes()


def test_a_bucket_that_may_not_be_read_is_told(server: WebServer) -> None:
    server.statuses["/bucket/t.csv"] = 403
    with pytest.raises(TableError, match="may not be read with the credentials of this environment") as caught:
        open_table("s3://bucket/t.csv")
    assert SECRET not in str(caught.value)


def test_a_server_of_moto_is_read(settings: None, monkeypatch: pytest.MonkeyPatch) -> None:
    moto = pytest.importorskip("moto.server", reason="needs moto[server]")
    import fsspec
    from fsspec.config import conf

    running = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    running.start()
    try:
        host, port = running.get_host_and_port()
        monkeypatch.setitem(conf, "s3", {"endpoint_url": f"http://{host}:{port}"})
        system = fsspec.filesystem("s3")
        system.mkdir("bucket")
        system.pipe({"bucket/d/t.csv": b"image,n\n1.png,1\ngone.png,2\n", "bucket/d/1.png": png(1)})
        told = reds("s3://bucket/d/t.csv")
        assert told == [1, "there is no s3://bucket/d/gone.png"]
        with pytest.raises(TableError, match=r"there is no s3://bucket/gone\.csv"):
            open_table("s3://bucket/gone.csv")
    finally:
        running.stop()
