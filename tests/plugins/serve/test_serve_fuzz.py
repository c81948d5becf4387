"""Odd requests, made from a seed, are answered or refused: none is a 500, and none changes what others are told."""

from __future__ import annotations

import io
import json
import random
import struct
from collections import Counter
from typing import Any

import pytest
from PIL import Image
from served import as_json

pytest.importorskip("fastapi", reason="needs mmreg[serve]")

REQUESTS = 600


def picture(form: str, mode: str, size: tuple[int, int], **options: Any) -> bytes:
    """A file with a picture of one colour; of several frames if `append_images` are given."""
    file = io.BytesIO()
    Image.new(mode, size).save(file, form, **options)
    return file.getvalue()


def sound(samples: int, code: int = 1, bits: int = 16, channels: int = 1, rate: int = 8000) -> bytes:
    """A WAVE file of some samples whose bits are all ones: of real numbers (code 3) these are NaN."""
    width = channels * bits // 8
    head = struct.pack("<HHIIHH", code, channels, rate, rate * width % 2**32, width, bits)
    data = b"\xff" * (samples * width)
    parts = b"WAVEfmt " + struct.pack("<I", len(head)) + head + b"data" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(parts)) + parts


ANIMATED = {"save_all": True, "append_images": [Image.new("P", (3, 3), 1)]}
FILES: list[bytes] = [
    *(picture("PNG", mode, (1, 1)) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")),
    *(picture("JPEG", "CMYK", (3, 3)), picture("TIFF", "F", (2, 2)), picture("TIFF", "CMYK", (2, 2))),
    *(picture("PNG", "RGB", (1, 3000)), picture("BMP", "RGB", (2, 2)), picture("PNG", "RGB", (9, 9))[:-20]),
    *(picture(form, "P", (3, 3), **ANIMATED) for form in ("GIF", "PNG", "WEBP")),
    *(sound(0), sound(1), sound(9, channels=0), sound(9, rate=0), sound(9, rate=2**31), sound(9, bits=0)),
    *(sound(9, code=3, bits=32), sound(9, code=3, bits=64), sound(9, code=7, bits=8), sound(99, channels=255)),
    *(b"RIFF", b"OggS" * 9, b"\x89PNG\r\n\x1a\n", b"GIF89a", b"%PDF-1.4", b"\x00" * 64, b"\x93NUMPY\x01\x00"),
]
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
        if draw.random() < 0.2:
            each |= as_json({draw.choice(["image", "audio"]): draw.choice(FILES)})
    body: Any = {"rows": draw.choice([rows] * 9 + [draw.choice(ODD)])}
    if draw.random() < 0.1:
        body[draw.choice(NAMES)] = draw.choice(ODD)
    return damaged(draw, written(draw, json.dumps(draw.choice([body] * 9 + [rows]))))


def written(draw: random.Random, text: str) -> bytes:
    """JSON in some encoding, sometimes of odd numbers, deep, or with a key that stands there twice."""
    text = draw.choice(
        [
            *[text] * 12,
            text.replace(
                '"title": ', f'"title": {draw.choice(["NaN", "-Infinity", "1e999", "-" + "9" * 5000])}, "x": '
            ),
            text.replace('"title": ', f'"title": {"[" * draw.choice([9, 900, 90_000])}, "x": '),
            text.replace('"title": ', f'"title": {"[" * 500}1{"]" * 500}, "title": '),
            text.replace('"rows": ', '"rows": 1, "rows": '),
            f'{{"rows": {text}}}',
        ]
    )
    encoding = draw.choice(["utf-8"] * 12 + ["utf-8-sig", "utf-16", "utf-32", "utf-7", "cp500"])
    return text.encode(encoding, "replace")


def odd_form(draw: random.Random, values: dict[str, Any]) -> tuple[bytes, str]:
    """A form with something wrong in it, or not quite, and its content type."""
    boundary = draw.choice(["b", "--", "x" * 70])
    parts = []
    for name in draw.choice([list(values)] * 3 + [draw.choices([*values, *NAMES], k=draw.randint(0, 4))]):
        content = values.get(name, draw.choice(["", "x", "true", "[1]", "[" * 9000, "[1e999]", "[NaN]"]))
        content = draw.choice(FILES) if isinstance(content, bytes) and draw.random() < 0.3 else content
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


def ask_oddly(client: Any, values: list[dict[str, Any]], seed: int, count: int) -> Counter[int]:
    """How often odd requests get which status; in the end, all is as before."""
    draw = random.Random(seed)
    known = {"rows": [as_json(values[0])], "shares": True}
    before = client.post("/predict", json=known).json()
    statuses: Counter[int] = Counter()
    for number in range(count):
        if number % 2:
            body, kind = odd_json(draw, as_json(values[number % 60])), "application/json"
        else:
            body, kind = odd_form(draw, values[number % 60])
        answer = client.post("/predict", content=body, headers={"content-type": kind})
        assert answer.status_code in (200, 413, 415, 422), (seed, number, kind, body[:200], answer.text)
        assert "predictions" in answer.json() or isinstance(answer.json()["detail"], str)
        statuses[answer.status_code] += 1
    assert client.post("/predict", json=known).json() == before
    return statuses


def test_odd_requests_are_answered_or_refused(client, values):
    statuses = ask_oddly(client, values, 0, REQUESTS)
    assert min(statuses[200], statuses[422]) > REQUESTS / 20  # both roads are taken


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 6))
def test_a_thousand_more_are_so_too(client, values, seed):
    ask_oddly(client, values, seed, 1000)


@pytest.mark.parametrize("number", range(len(FILES)))
@pytest.mark.parametrize("column", ["image", "audio"])
def test_every_odd_file_is_answered_or_refused(client, column, number):
    answer = client.post("/predict", json={"rows": [as_json({column: FILES[number], "title": "a"})]})
    assert answer.status_code in (200, 422), answer.text


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "TRACE", "X"])
@pytest.mark.parametrize(
    "path", ["/predict", "/", "/healthz", "/../etc/passwd", "/%00", "/page.js/", "/?a=/etc/passwd"]
)
def test_other_methods_and_paths_are_no_failure(client, method, path):
    assert client.request(method, path).status_code < 500
