"""Requests with rows are answered as `Run.predict` answers; what is no such request is refused by its reason."""

from __future__ import annotations

import io
import json
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from served import as_json, check_same

pytest.importorskip("fastapi", reason="needs mmreg[serve]")

from mmreg import registry
from mmreg_serve.columns import Column, columns_of
from mmreg_serve.refusal import Refused


def test_json_with_many_rows_is_answered_as_predict_answers(client, run, values):
    answer = client.post("/predict", json={"rows": [as_json(row) for row in values[:9]]})
    assert answer.status_code == 200
    predictions = answer.json()["predictions"]
    for answered, expected in zip(predictions, run.predict(values[:9]), strict=True):
        check_same(answered, expected)
        assert "shares" not in answered


def test_a_form_with_files_is_answered_alike(client, run, values):
    parts = [(name, value) for row in values[:3] for name, value in row.items()]
    fields = [(name, (None, value) if isinstance(value, str) else ("a/b.bin", value)) for name, value in parts]
    answer = client.post("/predict", files=fields)
    assert answer.status_code == 200
    for answered, expected in zip(answer.json()["predictions"], run.predict(values[:3]), strict=True):
        check_same(answered, expected)


def test_a_text_may_come_as_a_file(client, run, values):
    answer = client.post("/predict", files={"title": ("title.txt", values[0]["title"].encode())})
    check_same(answer.json()["predictions"][0], run.predict([{"title": values[0]["title"]}])[0])


@pytest.mark.parametrize("absent", [{}, {"image": None}, {"image": {"base64": ""}, "title": "", "audio": []}])
def test_what_a_row_lacks_is_absent(client, run, values, absent):
    rows = [{"title": values[0]["title"]}, absent]
    answer = client.post("/predict", json={"rows": rows}).json()["predictions"]
    assert [row["modalities"] for row in answer] == [["title"], []]
    check_same(answer[0], run.predict([{"title": values[0]["title"]}])[0])


def test_an_empty_part_of_a_form_is_absent(client):
    answer = client.post("/predict", files=[("title", (None, "a red thing")), ("image", ("x.png", b""))])
    assert answer.json()["predictions"][0]["modalities"] == ["title"]


PATHS = ["/etc/passwd", "images/0.png", "../run/recipe.yaml", "file:///etc/passwd", "http://localhost/healthz", "[1]"]


@pytest.mark.parametrize("text", PATHS)
def test_a_text_that_looks_like_a_path_is_a_text(client, run, text):
    answer = client.post("/predict", json={"rows": [{"title": text}]})
    check_same(answer.json()["predictions"][0], run.predict([{"title": text}])[0])


@pytest.mark.parametrize("column", ["image", "audio"])
@pytest.mark.parametrize("value", [*PATHS, 3, True, ["images/0.png"], [["a"]], {"path": "images/0.png"}])
def test_no_path_is_read(client, served_folder, monkeypatch, column, value):
    monkeypatch.chdir(served_folder)  # where images/0.png is there
    answer = client.post("/predict", json={"rows": [{column: value}]})
    assert answer.status_code == 422
    assert column in answer.json()["detail"]


@pytest.mark.parametrize("column", ["image", "audio"])
@pytest.mark.parametrize("text", PATHS[:-1])
def test_no_path_in_a_form_is_read(client, served_folder, monkeypatch, column, text):
    monkeypatch.chdir(served_folder)
    assert client.post("/predict", files={column: (None, text)}).status_code == 422


@pytest.mark.parametrize("name", ["image", "audio", "video", "series", "vector"])
def test_all_bundled_modalities_of_files_take_bytes_or_numbers_alone(name):
    modality = registry.get("modality", f"mmreg:{name}")
    assert modality.paths
    for many in (False, True):
        column = Column("x", name, files=modality.paths, joined=False, many=many)
        assert column.value({"base64": "YWJj"}) == (b"abc", "file")
        for wrong in ("a.npy", "/dev/stdin", ["a.npy"], [["a.npy"]], {"path": "a"}, {"bytes": None, "path": "a"}, 1.5):
            with pytest.raises(Refused):
                column.value(wrong)


def test_numbers_are_arrays():
    column = Column("x", "series", files=True, joined=False, many=False)
    array, kind = column.value([[1, None], [2, 3.5]])
    np.testing.assert_array_equal(array, [[1, np.nan], [2, 3.5]])
    assert kind == "numbers 2"
    for wrong in ([[1], [2, 3]], [[[[[1]]]]], [[], [1]], [1, [2]], [{}], [10**400]):
        with pytest.raises(Refused):
            column.value(wrong)


def test_a_cell_of_several_values_is_a_list():
    column = Column("x", "image", files=True, joined=False, many=True)
    assert column.value([{"base64": "YQ=="}, None, {"base64": "Yg=="}]) == ([b"a", b"b"], "several file")
    assert column.value([]) == (None, "")
    with pytest.raises(Refused, match="one kind"):
        column.value([{"base64": "YQ=="}, [1.0]])


def test_columns_that_are_read_together_take_whole_numbers_for_real_ones():
    assert Column("x", "tabular", files=False, joined=True, many=False).value(3) == (3.0, "float")
    assert Column("x", "text", files=False, joined=False, many=False).value(3) == (3, "int")
    with pytest.raises(Refused, match="53"):
        Column("x", "tabular", files=False, joined=True, many=False).value(2**53 + 1)


def test_the_columns_of_a_run(run):
    assert {each.name: (each.type, each.files) for each in columns_of(run).values()} == {
        "image": ("image", True),
        "title": ("text", False),
        "audio": ("audio", True),
    }


REFUSED: list[tuple[Any, str]] = [
    ([], "body must be"),
    ({"rows": {}}, "body must be"),
    ({"rows": []}, "no row"),
    ({"rows": [1]}, "row 1 is a int"),
    ({"rows": [{}], "path": "x"}, "path"),
    ({"rows": [{}], "shares": 1}, "shares"),
    ({"rows": [{"titel": "x"}]}, "did you mean 'title'"),
    ({"rows": [{"title": "x"}, {"title": {"base64": "YQ=="}}]}, "row 2"),
    ({"rows": [{"title": "x"}, {"title": 3}]}, "mix a text and a int"),
    ({"rows": [{"image": {"base64": "!"}}]}, "base64"),
    ({"rows": [{"image": {"base64": "YQ=="}}]}, "row 1, column image"),
    ({"rows": [{"title": "\ud800"}]}, "surrogate"),
    ({"rows": [{"\ud800": "x"}]}, "no column"),
    ({"rows": [{"title": ["a"]}]}, "numbers"),
]


@pytest.mark.parametrize(("body", "told"), REFUSED)
def test_what_is_no_request_is_refused_by_its_reason(client, body, told):
    answer = client.post("/predict", content=_dumped(body), headers={"content-type": "application/json"})
    assert answer.status_code == 422
    assert told in answer.json()["detail"]


def _dumped(body: Any) -> bytes:
    return json.dumps(body).encode()


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b'{"rows":[{"title":NaN}]}', b"[" * 100_000, b"1" * 9000])
def test_what_is_no_json_is_refused(client, body):
    answer = client.post("/predict", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 422


@pytest.mark.parametrize("kind", ["", "text/plain", "application/x-www-form-urlencoded"])
def test_another_type_is_refused(client, kind):
    assert client.post("/predict", content=b"title=x", headers={"content-type": kind}).status_code == 415


def test_fields_that_are_not_there_equally_often_are_refused(client):
    answer = client.post("/predict", files=[("title", (None, "a")), ("title", (None, "b")), ("image", ("x", b"y"))])
    assert answer.status_code == 422
    assert "'title' 2 times, 'image' 1 time" in answer.json()["detail"]


def test_a_picture_that_would_need_gigabytes_is_refused(client):
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1 << 20)))
    answer = client.post("/predict", files={"image": ("x.png", io.BytesIO(bomb + chunk(b"IEND", b"")))})
    assert answer.status_code == 422
    assert "pixels" in answer.json()["detail"]


def test_openapi_describes_the_columns(client):
    described = client.get("/openapi.json").json()
    schemas = described["components"]["schemas"]
    assert set(schemas["Row"]["properties"]) == {"image", "title", "audio"}
    content = described["paths"]["/predict"]["post"]["requestBody"]["content"]
    assert set(content) == {"application/json", "multipart/form-data"}
    assert {"200", "413", "415", "422", "503"} <= set(described["paths"]["/predict"]["post"]["responses"])


def test_nothing_is_fetched_from_elsewhere_for_the_documentation(client):
    assert client.get("/docs").status_code == client.get("/redoc").status_code == 404
