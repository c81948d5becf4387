"""Tables of Google Cloud Storage and of the Hugging Face Hub, of plain servers that speak their part of reading."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from web_server import WebServer

from mmreg.data.sources import open_table
from mmreg.errors import TableError

TABLE = b"a,b\n1,2\n"


@pytest.fixture
def at(web: WebServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Has fsspec ask a server for a scheme; the test's own if no other is named."""
    import fsspec
    from fsspec.config import conf

    monkeypatch.setenv("HF_TOKEN", "")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "")
    schemes = []

    def set_server(scheme: str, key: str, address: str = web.address, **options: Any) -> None:
        schemes.append(scheme)
        monkeypatch.setitem(conf, scheme, {key: address, **options})
        fsspec.get_filesystem_class(scheme).clear_instance_cache()

    yield set_server
    for scheme in schemes:
        fsspec.get_filesystem_class(scheme).clear_instance_cache()


def test_a_table_of_the_hub(web: WebServer, at: Any) -> None:
    pytest.importorskip("huggingface_hub", reason="needs huggingface_hub")
    at("hf", "endpoint")
    api = "/api/datasets/somebody/pets"
    web.files |= {
        api: json.dumps({"id": "somebody/pets", "sha": "a" * 40, "siblings": []}).encode(),
        f"{api}/tree/main": json.dumps([{"type": "file", "path": "t.csv", "size": 8, "oid": "b" * 40}]).encode(),
        "/datasets/somebody/pets/resolve/main/t.csv": TABLE,
    }
    for _ in range(2):
        assert open_table("hf://datasets/somebody/pets/t.csv").columns == ["a", "b"]
    assert web.asked["GET", "/datasets/somebody/pets/resolve/main/t.csv"] == 1
    with pytest.raises(TableError, match=r"there is no hf://datasets/somebody/pets/gone\.csv$"):
        open_table("hf://datasets/somebody/pets/gone.csv")
    with pytest.raises(TableError, match=r"there is no hf://datasets/nobody/t/t\.csv, or it is private: set HF_TOKEN"):
        open_table("hf://datasets/nobody/t/t.csv")
    web.statuses["/datasets/somebody/pets/resolve/main/t.csv"] = 403
    web.files[f"{api}/tree/main"] = web.files[f"{api}/tree/main"].replace(b"bb", b"cc")
    at("hf", "endpoint")
    with pytest.raises(TableError, match="may not be read with the credentials of this environment"):
        open_table("hf://datasets/somebody/pets/t.csv")
    at("hf", "endpoint", "http://127.0.0.1:9")
    with pytest.raises(TableError, match=r"its server cannot be reached; .*, or set HF_ENDPOINT"):
        open_table("hf://datasets/somebody/pets/t.csv")


def test_a_table_of_google(web: WebServer, at: Any) -> None:
    pytest.importorskip("gcsfs", reason="needs gcsfs")
    import gcsfs

    if gcsfs.GCSFileSystem is not gcsfs.core.GCSFileSystem:
        pytest.skip("gcsfs asks Google for the bucket's kind, unless GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT=false")
    at("gs", "endpoint_url", token="anon")
    facts = {"kind": "storage#object", "name": "d/t.csv", "bucket": "bucket", "size": "8", "generation": "1"}
    of_file = "/storage/v1/b/bucket/o/d%2Ft.csv"
    web.files |= {of_file: json.dumps(facts).encode(), f"/download{of_file}": TABLE}
    for _ in range(2):
        assert open_table("gs://bucket/d/t.csv").columns == ["a", "b"]
    assert web.asked["GET", f"/download{of_file}"] == 1
    with pytest.raises(TableError, match=r"there is no gs://bucket/gone\.csv$"):
        open_table("gs://bucket/gone.csv")
    web.statuses[of_file] = 401
    at("gs", "endpoint_url", token="anon")
    with pytest.raises(TableError, match=r"may not be read with the credentials of this environment \(401\)"):
        open_table("gs://bucket/d/t.csv")
