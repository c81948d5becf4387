"""Odd requests, made from a seed, are answered or refused: none is a 500, and none changes what others are told."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from served import as_json

pytest.importorskip("fastapi", reason="needs mmreg[serve]")

REQUESTS = 600
ODD: list[Any] = [
    *(
        None,
        True,
        False,
        0,
        -1,
        10**30,
        1e308,
        -0.0,
        "",
        " ",
        "\x00",
        "\ud800",
        "é" * 300,
        "../x",
        "[1, 2",
        "[[1],[2]]",
    ),
    *([], [[]], {}, [1], [1.5, None], ["a"], [[1, 2], [3]], [True], {"base64": ""}, {"base64": "YQ=="}, {"base64": 3}),
    *({"base64": "="}, {"path": "/etc/passwd"}, {"base64": "YQ==", "path": "x"}, [[[[[[1]]]]]], [{"base64": "YQ=="}]),
]
NAMES = ["image", "title", "audio", "rows", "shares", "", "\ud800", "Title", "image ", "__class__", "x" * 999]


def odd_json(draw: random.Random, row: dict[str, Any]) -> bytes:
    """A request as JSON with something wrong in it, or not quite."""
    rows: Any = [dict(row) for _ in range(draw.choice([0, 1, 1, 1, 2, 3]))]
    for each in rows:
        for _ in range(draw.choice([0, 0, 0, 1, 2])):
            each[draw.choice(NAMES)] = draw.choice(ODD)
    body: Any = {"rows": draw.choice([rows] * 9 + [draw.choice(ODD)])}
    if draw.random() < 0.1:
        body[draw.choice(NAMES)] = draw.choice(ODD)
    return damaged(draw, json.dumps(draw.choice([body] * 9 + [rows])).encode())


def odd_form(draw: random.Random, values: dict[str, Any]) -> tuple[bytes, str]:
    """A form with something wrong in it, or not quite, and its content type."""
    boundary = draw.choice(["b", "--", "x" * 70])
    parts = []
    for name in draw.choice([list(values)] * 3 + [draw.choices([*values, *NAMES], k=draw.randint(0, 4))]):
        content = values.get(name, draw.choice(["", "x", "true", "[1]"]))
        content = content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass")
        more = draw.choice(
            ['; filename="a.png"'] * 6 + ["", "; filename*=utf-8''%ff", '; filename="../../x"', "; name=y"]
        )
        head = f'Content-Disposition: form-data; name="{name}"{more}\r\n'.encode("utf-8", "surrogatepass")
        head += draw.choice(
            [b""] * 4 + [b"Content-Type: image/png\r\n", b"Content-Transfer-Encoding: base64\r\n", b"X\r\n"]
        )
        parts.append(b"--" + boundary.encode() + b"\r\n" + head + b"\r\n" + damaged(draw, content) + b"\r\n")
    body = b"".join(parts) + b"--" + boundary.encode() + draw.choice([b"--\r\n", b"--\r\n", b"--", b""])
    charset = draw.choice(["", "", "; charset=utf-16", "; charset=none"])
    whole = f"multipart/form-data; boundary={boundary}{charset}"
    kind = draw.choice([whole] * 18 + ["multipart/form-data", "multipart/"])
    return damaged(draw, body), kind


def damaged(draw: random.Random, data: bytes) -> bytes:
    """Sometimes with bytes changed, cut out or doubled."""
    if not data or draw.random() < 0.8:
        return data
    at, size = draw.randrange(len(data)), draw.choice([1, 1, 2, 8, 64])
    middle = draw.choice([b"", draw.randbytes(size), data[at : at + size] * 2])
    return data[:at] + middle + data[at + size :]


def test_odd_requests_are_answered_or_refused(client, values):
    draw = random.Random(0)
    known = {"rows": [as_json(values[0])], "shares": True}
    before = client.post("/predict", json=known).json()
    statuses: dict[int, int] = {}
    for number in range(REQUESTS):
        if number % 2:
            body, kind = odd_json(draw, as_json(values[number % 60])), "application/json"
        else:
            body, kind = odd_form(draw, values[number % 60])
        answer = client.post("/predict", content=body, headers={"content-type": kind})
        assert answer.status_code in (200, 413, 415, 422), (number, kind, body[:200], answer.text)
        assert "predictions" in answer.json() or isinstance(answer.json()["detail"], str)
        statuses[answer.status_code] = statuses.get(answer.status_code, 0) + 1
    assert min(statuses[200], statuses[422]) > REQUESTS / 20  # both roads are taken
    assert client.post("/predict", json=known).json() == before


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "TRACE", "X"])
@pytest.mark.parametrize(
    "path", ["/predict", "/", "/healthz", "/../etc/passwd", "/%00", "/page.js/", "/?a=/etc/passwd"]
)
def test_other_methods_and_paths_are_no_failure(client, method, path):
    assert client.request(method, path).status_code < 500
