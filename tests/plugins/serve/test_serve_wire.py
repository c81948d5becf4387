"""What a client does to the connection itself, made from a seed: no failure, no hanging, and others are answered."""

from __future__ import annotations

import json
import random
import socket
import time
from collections import Counter
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import pytest
from served import as_json, in_a_thread

pytest.importorskip("fastapi", reason="needs mmreg[serve]")
from mmreg_serve.app import create_app
from mmreg_serve.limits import Limits

SECONDS = 0.3
"""The limit of a request that does not come to its end."""
QUIET = 0.3
"""Seconds without an answer after which a client ends what it sends."""
PATIENCE = 60.0
"""Seconds in which a connection has to be answered or closed."""


@pytest.fixture(scope="module", params=[pytest.param("h11", marks=pytest.mark.slow), "httptools"])
def port(request: Any, run: Any) -> Iterator[int]:
    if find_spec(request.param) is None:
        pytest.skip(f"needs {request.param}")
    with in_a_thread(create_app(run, Limits(bytes=100_000)), http=request.param) as url:
        yield int(url.rsplit(":", 1)[1])


@pytest.fixture(scope="module", params=[pytest.param("h11", marks=pytest.mark.slow), "httptools"])
def hurried(request: Any, run: Any) -> Iterator[int]:
    """The port of a service with a limit that nobody would wait out."""
    if find_spec(request.param) is None:
        pytest.skip(f"needs {request.param}")
    with in_a_thread(create_app(run, Limits(seconds=SECONDS)), http=request.param) as url:
        yield int(url.rsplit(":", 1)[1])


def talk(port: int, parts: list[bytes], pause: float = 0.0, quiet: float = PATIENCE) -> bytes:
    """What is answered to some bytes, sent one after the other, by a client that ends them if nothing comes."""
    got = b""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as peer:
        try:
            for part in parts:
                peer.sendall(part)
                time.sleep(pause)
            peer.settimeout(quiet)
            while not whole(got):
                try:
                    more = peer.recv(65536)
                except TimeoutError:
                    if peer.gettimeout() == PATIENCE:
                        raise
                    peer.shutdown(socket.SHUT_WR)
                    peer.settimeout(PATIENCE)
                    continue
                if not more:
                    break
                got += more
        except ConnectionError:  # it was refused before its end
            pass
    return got


def whole(got: bytes) -> bool:
    """Whether there is a head with as many bytes of body as it says."""
    head, end, body = got.partition(b"\r\n\r\n")
    length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
    return bool(end) and length.isdigit() and len(body) >= int(length)


def post(body: bytes, *headers: str, length: str | None = None) -> bytes:
    """A request to /predict; its length is what is said, "" for none."""
    said = str(len(body)) if length is None else length
    lines = ["POST /predict HTTP/1.1", "Host: localhost", "Content-Type: application/json", *headers]
    lines += [f"Content-Length: {said}"] if said else []
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def chunked(body: bytes, size: int, end: bytes = b"0\r\n\r\n") -> bytes:
    cut = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(each), each) for each in cut) + end


def oddly(draw: random.Random, body: bytes) -> tuple[list[bytes], float]:
    """What is sent, and the pause after each part."""
    lie = draw.choice(["0", "1", "-1", "+5", "1e3", "x", " ", "9" * 30, str(len(body) - 1), str(len(body) + 9)])
    whole_one = post(body)
    at = draw.randrange(len(whole_one))
    halves = [whole_one[:at], whole_one[at:]]
    coding = "Transfer-Encoding: chunked"
    end = draw.choice([b"0\r\n\r\n", b"", b"-1\r\n\r\n", b"zz\r\n", b"ffffffffffffffffff\r\n", b"0\r\nX: y\r\n\r\n"])
    return draw.choice(
        [
            ([post(body, length=lie)], 0.0),
            ([post(body, f"Content-Length: {lie}")], 0.0),
            ([post(b"", coding, length="") + chunked(body, draw.choice([1, 7, 5000]), end)], 0.0),
            ([post(chunked(body, 99), coding)], 0.0),  # both lengths
            (halves, 0.05),
            (halves[:1], 0.0),
            ([bytes([byte]) for byte in whole_one[:40]], 0.001),
            ([draw.randbytes(draw.choice([1, 99, 9999]))], 0.0),
            ([whole_one.replace(b"HTTP/1.1", draw.choice([b"HTTP/0.9", b"HTTP/9.9", b"", b"\x00"]))], 0.0),
            ([whole_one.replace(b"Host", draw.choice([b"", b"H\x00st", b"Host: a\r\nHost", b" "]))], 0.0),
            ([post(body, f"X: {'y' * draw.choice([9, 9_999, 99_999])}", "Expect: 100-continue")], 0.0),
        ]
    )


def ask_oddly(port: int, body: bytes, seed: int, count: int) -> Counter[int]:
    """How often odd connections get which status, 0 if they are closed; a usual one is answered after each."""
    draw = random.Random(seed)
    usual = talk(port, [post(body)]).partition(b"\r\n\r\n")[2]
    assert b"predictions" in usual
    statuses: Counter[int] = Counter()
    for number in range(count):
        parts, pause = oddly(draw, body)
        got = talk(port, parts, pause, QUIET)
        status = int(got.split(b" ", 2)[1]) if got.startswith(b"HTTP/1.1 ") else 0
        assert status in (0, 100, 200, 400, 413, 415, 422, 431, 503), (seed, number, parts, got)
        statuses[status] += 1
        assert talk(port, [post(body)]).partition(b"\r\n\r\n")[2] == usual, (seed, number, parts)
    return statuses


@pytest.fixture(scope="module")
def body(values: list[dict[str, Any]]) -> bytes:
    return json.dumps({"rows": [as_json(values[0])]}).encode()


def test_odd_connections_are_answered_or_closed(port, body):
    statuses = ask_oddly(port, body, 0, 40)
    assert min(statuses[200], statuses[400]) > 0  # both roads are taken


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 4))
def test_hundreds_more_are_so_too(port, body, seed):
    ask_oddly(port, body, seed, 150)


def test_a_body_in_chunks_is_read(port, body):
    answer = talk(port, [post(b"", "Transfer-Encoding: chunked", length="") + chunked(body, 50)])
    assert answer.startswith(b"HTTP/1.1 200"), answer


def test_a_body_in_chunks_has_the_limit_of_any(port):
    answer = talk(port, [post(b"", "Transfer-Encoding: chunked", length="") + chunked(b" " * 200_000, 5000)])
    assert answer.startswith(b"HTTP/1.1 413"), answer


def test_requests_sent_at_once_are_answered_in_their_order(port, values):
    titles = ["a red thing", "green stuff", "blue"]
    asked = [post(json.dumps({"rows": [{"title": title}] * (at + 1)}).encode()) for at, title in enumerate(titles)]
    last = post(b"{}", "Connection: close")
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as peer:
        peer.sendall(b"".join([*asked, last]))
        got = b"".join(iter(lambda: peer.recv(65536), b""))
    bodies = [each.partition(b"\r\n\r\n")[2] for each in got.split(b"HTTP/1.1 ")[1:]]
    assert [len(json.loads(each)["predictions"]) for each in bodies[:-1]] == [1, 2, 3]
    assert "detail" in json.loads(bodies[-1])


def test_a_body_that_does_not_come_is_not_waited_for(hurried, body):
    in_chunks = post(b"", "Transfer-Encoding: chunked", length="")
    for stalled in (post(body)[:-9], post(body, length=str(len(body) + 1)), in_chunks, in_chunks + b"5\r\n{}"):
        began = time.monotonic()
        answer = talk(hurried, [stalled])
        assert answer.startswith(b"HTTP/1.1 503"), answer
        assert b"retry-after: 1" in answer.lower()
        assert SECONDS <= time.monotonic() - began < PATIENCE
