"""`mmreg serve --on ENGINE`: the engine gets the application with all that was asked for, and ends when it is told."""

from __future__ import annotations

import os
import pickle
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

testclient = pytest.importorskip("fastapi.testclient", reason="needs mmreg[serve]")

from engines import HereEngine
from served import as_json, check_same

import mmreg_serve.command
from mmreg import EngineSpec, load
from mmreg.errors import EngineError, OptionError
from mmreg.registry import engines
from mmreg_serve.command import listening, serve

TOKEN = "0123456789abcdef"


class ServingEngine(HereEngine):
    """Keeps what it is asked for."""

    asked: dict[str, Any]
    ended = False

    @contextmanager
    def serve(self, build: Any, **asked: Any) -> Iterator[str]:  # type: ignore[override]
        type(self).asked = {**asked, "build": pickle.loads(pickle.dumps(build))}
        yield "http://somewhere"
        type(self).ended = True


@pytest.fixture(autouse=True)
def brought(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ServingEngine, "ended", False)
    found = [
        ("mine", EngineSpec("serving", f"{__name__}:ServingEngine")),
        ("mine", EngineSpec("here", "engines:HereEngine")),
    ]
    monkeypatch.setattr(engines, "call_hook", lambda plugins, name, item: iter(found))
    monkeypatch.setattr(
        engines, "import_target", {found[0][1].target: ServingEngine, found[1][1].target: HereEngine}.get
    )


def free_port() -> int:
    with listening("127.0.0.1", 0) as found:
        return int(found.getsockname()[1])


def test_replicas_answer_as_one_process_does_with_its_limits_and_token(
    served_folder: Path, run: Any, values: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []

    def say(text: str) -> None:
        said.append(text)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(mmreg_serve.command, "say", say)
    (tmp_path / "token").write_text(TOKEN)
    monkeypatch.chdir(served_folder)
    port = free_port()
    before = signal.getsignal(signal.SIGTERM)
    serve(
        Path("run"),
        port=port,
        token_file=tmp_path / "token",
        max_rows=2,
        max_seconds=20,
        device="cpu",
        on="serving",
        replicas=3,
    )
    assert signal.getsignal(signal.SIGTERM) == before
    assert said == ["serving run at http://somewhere (Ctrl-C ends it)"]
    assert ServingEngine.ended
    asked = ServingEngine.asked
    assert (asked["host"], asked["port"], asked["replicas"], asked["seconds"]) == ("127.0.0.1", port, 3, 25)
    assert asked["accelerator"] is False
    monkeypatch.chdir("/")
    with testclient.TestClient(asked["build"](), base_url="http://localhost") as client:
        rows = [as_json(row) for row in values[:3]]
        assert client.post("/predict", json={"rows": rows[:1]}).status_code == 401
        client.headers["Authorization"] = f"Bearer {TOKEN}"
        assert client.post("/predict", json={"rows": rows}).status_code == 413
        assert client.get("/healthz", headers={"host": "elsewhere"}).status_code == 400
        answer = client.post("/predict", json={"rows": rows[:2]})
    for row, expected in zip(answer.json()["predictions"], run.predict(values[:2]), strict=True):
        check_same(row, expected)


def test_replicas_load_a_run_of_the_hub_from_where_it_was_fetched_to(
    served_folder: Path, run: Any, values: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mmreg_serve.command, "say", lambda _: os.kill(os.getpid(), signal.SIGTERM))
    with monkeypatch.context() as fetching:
        fetching.setattr("mmreg.load", lambda *_: load(served_folder / "run", "cpu"))
        serve(Path("hf://someone/run"), port=free_port(), device="cpu", on="serving")
    with testclient.TestClient(ServingEngine.asked["build"](), base_url="http://localhost") as client:
        answer = client.post("/predict", json={"rows": [as_json(values[0])]})
    check_same(answer.json()["predictions"][0], run.predict(values[:1])[0])


def test_what_makes_no_sense_is_refused(served_folder: Path) -> None:
    with pytest.raises(OptionError, match="--replicas says how many processes of an engine answer"):
        serve(served_folder / "run", replicas=2)
    with pytest.raises(OptionError, match="--port 0 finds a port of this machine alone"):
        serve(served_folder / "run", port=0, on="serving")
    with pytest.raises(EngineError, match="the engine HereEngine only maps: it serves nothing"):
        serve(served_folder / "run", port=free_port(), device="cpu", on="here")
