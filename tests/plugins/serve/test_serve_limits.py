"""What is too large, too slow, too much at once, or of nobody who may ask, is refused by its status."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest
from served import among, as_json

pytest.importorskip("fastapi", reason="needs mmreg[serve]")

from fastapi.testclient import TestClient

from mmreg_serve.app import create_app
from mmreg_serve.limits import Limits

JSON = {"content-type": "application/json"}
ROW = {"rows": [{"title": "a red thing"}]}
TOKEN = "0123456789abcdef"


def ask(app: Any, **arguments: Any) -> Any:
    with TestClient(app, base_url="http://localhost") as client:
        return client.post("/predict", **arguments)


def test_a_body_that_is_announced_too_large_is_not_read(run):
    assert ask(create_app(run, Limits(bytes=100)), content=b"x" * 101, headers=JSON).status_code == 413


def test_a_body_that_turns_out_too_large_is_not_read_to_its_end(run):
    sent = 0

    async def parts() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(100):
            sent += 60
            yield b" " * 60

    async def chunked(client: Any) -> Any:
        return await client.post("/predict", content=parts(), headers=JSON)

    assert among(create_app(run, Limits(bytes=100)), chunked).status_code == 413
    assert sent <= 180


def test_bodies_of_all_requests_together_are_limited(run):
    async def at_once(client: Any) -> list[int]:
        begun, go = asyncio.Event(), asyncio.Event()

        async def slow() -> AsyncIterator[bytes]:
            yield b" " * 90
            begun.set()
            await go.wait()
            yield b""

        first = asyncio.create_task(client.post("/predict", content=slow(), headers=JSON))
        await begun.wait()
        second = await client.post("/predict", content=b" " * 90, headers=JSON)
        go.set()
        third = await first, await client.post("/predict", content=b" " * 90, headers=JSON)
        assert second.headers["retry-after"] == "1"
        return [second.status_code, *(answer.status_code for answer in third)]

    # What is refused counts no longer, and neither does what was answered.
    assert among(create_app(run, Limits(bytes=100, bodies=1)), at_once) == [503, 422, 422]


def test_too_many_rows_are_refused(run):
    assert ask(create_app(run, Limits(rows=2)), json={"rows": [{}, {}, {}]}).status_code == 413
    many = [("title", (None, "x"))] * 3
    assert ask(create_app(run, Limits(rows=2)), files=many).status_code == 413


def test_a_request_that_takes_too_long_is_given_up(run, monkeypatch):
    go = threading.Event()
    monkeypatch.setattr(run, "prepare", lambda *_, **__: go.wait(60))

    async def twice(client: Any) -> list[Any]:
        try:
            return await asyncio.gather(*(client.post("/predict", json=ROW) for _ in range(2)))
        finally:
            go.set()

    for answer in among(create_app(run, Limits(seconds=0.05)), twice):
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "1"


def test_after_a_refusal_others_are_answered(client, run):
    before = client.post("/predict", json=ROW).json()
    for _ in range(3):
        assert client.post("/predict", json={"rows": [{"image": {"base64": "YQ=="}}]}).status_code == 422
    assert client.post("/predict", json=ROW).json() == before


@pytest.mark.parametrize("given", [None, "", "Bearer", f"Bearer {TOKEN[:-1]}", f"Basic {TOKEN}", f"Bearer {TOKEN}x"])
@pytest.mark.parametrize("path", ["/predict", "/metrics", "/model", "/openapi.json", "/nothing"])
def test_without_the_token_nothing_is_told(run, given, path):
    headers = {} if given is None else {"authorization": given}
    with TestClient(create_app(run, token=TOKEN), base_url="http://localhost") as client:
        answer = client.post(path, headers=headers) if path == "/predict" else client.get(path, headers=headers)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert client.get("/healthz").status_code == client.get("/").status_code == 200


def test_with_the_token_it_is_answered(run):
    app = create_app(run, token=TOKEN)
    assert ask(app, json=ROW, headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200


def test_the_token_is_compared_in_constant_time(run, monkeypatch):
    compared = []
    from mmreg_serve import guard

    monkeypatch.setattr(guard.secrets, "compare_digest", lambda *pair: compared.append(pair) or False)
    ask(create_app(run, token=TOKEN), json=ROW, headers={"authorization": "Bearer x"})
    assert compared == [(b"Bearer x", f"Bearer {TOKEN}".encode())]


@pytest.mark.parametrize(
    ("host", "status"), [("localhost:80", 200), ("[::1]:8000", 200), ("evil.example", 400), ("", 400)]
)
def test_another_name_of_this_host_is_refused(run, host, status):
    app = create_app(run, hosts=["localhost", "[::1]"])
    assert ask(app, json=ROW, headers={"host": host}).status_code == status


@pytest.mark.parametrize(
    ("origin", "status"),
    [("http://evil.com", 403), ("null", 403), ("http://localhost:8000", 200), ("http://localhost:9000", 403)],
)
def test_a_page_from_elsewhere_may_not_ask(run, origin, status):
    headers = {"origin": origin, "host": "localhost:8000"}
    assert ask(create_app(run), json=ROW, headers=headers).status_code == status


@pytest.mark.parametrize("path", ["/", "/page.js", "/page.css", "/healthz", "/metrics", "/nothing"])
def test_every_answer_has_the_headers_that_keep_it_here(client, path):
    headers = client.get(path).headers
    assert headers["content-security-policy"].startswith("default-src 'none'; script-src 'self';")
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"
    assert "access-control-allow-origin" not in headers


def test_metrics_count_by_status(client):
    client.post("/predict", json=ROW)
    client.post("/predict", json={})
    client.post("/predict", json=as_json(ROW))
    text = client.get("/metrics").text
    assert 'mmreg_requests_total{status="200"} 2' in text
    assert 'mmreg_requests_total{status="422"} 1' in text
    assert "mmreg_request_seconds_count 3" in text
    assert 'mmreg_batch_rows_bucket{le="1.0"} 2' in text
