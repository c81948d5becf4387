"""`mmreg serve --on ray`: two replicas, one of which is killed while many ask."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

ray = pytest.importorskip("ray", reason="needs Ray: pip install 'mmreg[ray]'")
pytest.importorskip("ray.serve", reason="needs Ray Serve: pip install 'mmreg[ray]'")
pytest.importorskip("fastapi", reason="needs mmreg[serve]")
httpx = pytest.importorskip("httpx")

import engines
import small
from served import as_json, check_same

import mmreg
from mmreg.errors import EngineError
from mmreg.registry import serve_elsewhere
from mmreg_ray import serving
from mmreg_ray.engine import RayEngine
from mmreg_serve.app import load_app
from mmreg_serve.command import listening
from mmreg_serve.limits import Limits

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # Ray's and its libraries' own

TOKEN = "0123456789abcdef"
REQUESTS, CLIENTS = 400, 16


@pytest.fixture(scope="module")
def values(trained: Path) -> list[dict[str, Any]]:
    """Rows with what a request gives."""
    return [
        {**row, "image": (trained / row["image"]).read_bytes(), "audio": (trained / row["audio"]).read_bytes()}
        for row in small.read_table(trained / "table.csv")[:20]
    ]


def free_port() -> int:
    with listening("127.0.0.1", 0) as found:
        return int(found.getsockname()[1])


def test_no_answer_is_wrong_when_a_replica_is_killed_and_it_is_replaced(
    cluster: Any, trained: Path, tmp_path: Path, values: list[dict[str, Any]]
) -> None:
    run = mmreg.load(trained / "run", "cpu")
    inputs = [{name: row[name] for name in ("image", "title", "audio")} for row in values]
    expected = run.predict(inputs)
    bodies = [{"rows": [as_json(row)]} for row in inputs]
    limits = Limits(bytes=2_000_000, rows=40)
    build = partial(load_app, trained / "run", "cpu", None, limits, TOKEN, ["127.0.0.1"])
    options = {"host": "127.0.0.1", "port": free_port(), "replicas": 2, "at_once": 1000, "seconds": 35}
    headers = {"Authorization": f"Bearer {TOKEN}"}
    done: list[tuple[int, int]] = []  # which row, and the status
    with (
        serve_elsewhere(RayEngine(), engines.NotesBuilding(build, tmp_path), **options) as url,
        httpx.Client(base_url=url, headers=headers, timeout=60, limits=httpx.Limits(max_connections=CLIENTS)) as client,
    ):

        def ask(number: int) -> None:
            row = number % len(bodies)
            answer = client.post("/predict", json=bodies[row])
            done.append((number, answer.status_code))
            if answer.status_code == 200:
                check_same(answer.json()["predictions"][0], expected[row])

        first = {int(path.name) for path in tmp_path.iterdir()}
        assert len(first) == 2
        with ThreadPoolExecutor(CLIENTS) as pool:
            asked = [pool.submit(ask, number) for number in range(REQUESTS)]
            while len(done) < REQUESTS // 4:
                time.sleep(0.01)
            os.kill(min(first), signal.SIGKILL)
            assert len(done) < REQUESTS
        for each in asked:
            each.result()
        failed = [status for _, status in done if status != 200]
        print(f"{REQUESTS} requests, of which {len(failed)} failed: {failed}")
        assert len(failed) <= CLIENTS  # no more than were in flight
        assert all(status >= 500 for status in failed)
        until = time.monotonic() + 60
        while len(list(tmp_path.iterdir())) < 3:
            assert time.monotonic() < until, "the replica that was killed was not replaced"
            time.sleep(0.1)
        # What is refused, and what is asked last.
        assert client.get("/healthz").status_code == 200
        assert client.post("/predict", json=bodies[0], headers={"Authorization": "Bearer wrong"}).status_code == 401
        assert client.post("/predict", json={"rows": bodies[0]["rows"] * 41}).status_code == 413
        assert client.post("/predict", json={"rows": [{"title": "x" * 2_000_000}]}).status_code == 413
        assert client.get("/healthz", headers={"host": "elsewhere"}).status_code == 400
        last: list[Any] = []
        body = {"rows": bodies[0]["rows"] * 40, "shares": True}
        post = partial(httpx.post, f"{url}/predict", json=body, headers=headers, timeout=60)
        asking = threading.Thread(target=lambda: last.append(post()))
        asking.start()
        while not any("mmreg_requests_in_flight 1\n" in client.get("/metrics").text for _ in range(4)):
            assert not last
        with pytest.raises(EngineError, match="Ray Serve is running on this cluster already"):
            serve_elsewhere(RayEngine(), build, **options).__enter__()
    asking.join()
    assert last[0].status_code == 200
    assert all(path.read_text() == "built\n" for path in tmp_path.iterdir())  # each has loaded the run once


def test_what_cannot_be_served_is_told(cluster: Any, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "TRIES", 1)
    options = {"host": "127.0.0.1", "port": free_port(), "at_once": 10, "seconds": 5}
    with pytest.raises(EngineError, match="3 replicas need a CPU each, and the cluster has 2"):
        serve_elsewhere(RayEngine(), str, replicas=3, **options).__enter__()
    gone = partial(load_app, trained / "gone", "cpu", None, Limits(), None, None)
    with pytest.raises(EngineError, match=r"Ray Serve cannot begin to answer: .*RunError: .*gone"):
        serve_elsewhere(RayEngine(), gone, replicas=1, **options).__enter__()


def test_the_command_serves_until_it_is_told(trained: Path) -> None:
    port = free_port()
    command = [sys.executable, "-m", "mmreg", "serve", str(trained / "run"), "--on", "ray", "--replicas", "1"]
    with subprocess.Popen(
        [*command, "--port", str(port), "--device", "cpu"], stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        try:
            line = next(line for line in process.stderr if line.startswith("serving "))
            assert f"http://127.0.0.1:{port} " in line
            assert httpx.get(f"http://127.0.0.1:{port}/healthz", timeout=30).text == "ok\n"
            process.send_signal(signal.SIGTERM)
            assert process.wait(120) == 0
        finally:
            process.kill()
