"""Tables and files of S3: of a plain server that speaks its part of reading, and of moto's where that is installed."""

from __future__ import annotations

import io
import os
import tarfile
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


@pytest.fixture
def moto(settings: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """fsspec's file system of a server of moto's, with a bucket."""
    server = pytest.importorskip("moto.server", reason="needs moto[server]")
    import fsspec
    from fsspec.config import conf

    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    try:
        host, port = running.get_host_and_port()
        monkeypatch.setitem(conf, "s3", {"endpoint_url": f"http://{host}:{port}"})
        system = fsspec.filesystem("s3")
        system.makedirs("bucket", exist_ok=True)  # all servers of a process serve the same buckets
        system.pipe({"bucket/d/t.csv": b"image,n\n1.png,1\ngone.png,2\n", "bucket/d/1.png": png(1)})
        yield system
    finally:
        running.stop()


def test_a_server_of_moto_is_read(moto: Any) -> None:
    told = reds("s3://bucket/d/t.csv")
    assert told == [1, "there is no s3://bucket/d/gone.png"]
    moto.pipe({"bucket/d/1.png": png(7), "bucket/d/gone.png": png(2)})
    assert reds("s3://bucket/d/t.csv") == [7, 2]
    moto.pipe({"bucket/d/t.csv": b"image,n\n1.png,1\n"})
    assert reds("s3://bucket/d/t.csv") == [7]
    for name in ("bucket/gone.csv", "no-such-bucket/t.csv"):
        with pytest.raises(TableError, match=rf"there is no s3://{name}"):
            open_table(f"s3://{name}")


def test_shards_of_a_bucket_are_named_together(moto: Any) -> None:
    for number in range(2):
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w") as tar:
            info = tarfile.TarInfo(f"{number}.cls")
            info.size = 1
            tar.addfile(info, io.BytesIO(b"%d" % number))
        moto.pipe({f"bucket/t-{number}.tar": file.getvalue()})
    assert list(open_table("s3://bucket/t-{0..1}.tar").iter_values("cls")) == [0, 1]


@pytest.fixture
def once(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Settings by which nothing is tried again."""
    import s3fs

    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)
    return {"config_kwargs": {"retries": {"max_attempts": 0}}}


@pytest.mark.parametrize(
    ("endpoint", "told"),
    [
        (
            "http://127.0.0.1:9",
            r"its server cannot be reached; see .*, or set FSSPEC_S3_ENDPOINT_URL \(.*127\.0\.0\.1:9",
        ),
        ("localhost:80", "Invalid endpoint: localhost:80; write FSSPEC_S3_ENDPOINT_URL as https://HOST"),
    ],
)
def test_a_wrong_endpoint_is_told(
    endpoint: str, told: str, settings: None, once: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from fsspec.config import conf

    monkeypatch.setitem(conf, "s3", {"endpoint_url": endpoint, **once})
    with pytest.raises(TableError, match=told):
        open_table("s3://bucket/t.csv")


def test_without_credentials_it_is_told_where_they_are_read_from(
    settings: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fsspec

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    with pytest.raises(TableError, match=r"Unable to locate credentials; set AWS_ACCESS_KEY_ID and .*FSSPEC_S3_ANON"):
        open_table("s3://bucket/t.csv")
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    monkeypatch.setenv("AWS_PROFILE", "somebody")
    with pytest.raises(TableError, match=r"profile \(somebody\) could not be found; set .* or AWS_PROFILE"):
        open_table("s3://bucket/t.csv")
