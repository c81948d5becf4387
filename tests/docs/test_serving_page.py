"""The page about serving: what it asks is answered as it says, and its options and limits are those of the command."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import small
import typer

import mmreg

fastapi = pytest.importorskip("fastapi.testclient", reason="needs mmreg[serve]")
httpx = pytest.importorskip("httpx")

PAGE = (Path(__file__).parents[2] / "docs" / "serving.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from mmreg_serve.app import create_app

    folder = small.make_folder(tmp_path_factory.mktemp("page"))
    run = mmreg.train(folder / "recipe.yaml", folder / "run", device="cpu")
    (folder / "cat.png").write_bytes((folder / "images" / "0.png").read_bytes())
    with fastapi.TestClient(create_app(run), base_url="http://localhost") as client:
        client.folder = folder
        yield client


def test_the_example_in_python_runs(client, monkeypatch, capsys):
    (code,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    monkeypatch.chdir(client.folder)

    def post(url: str, **arguments: Any) -> Any:
        arguments.pop("timeout")
        return client.post(url.removeprefix("http://127.0.0.1:8000"), **arguments)

    monkeypatch.setattr(httpx, "post", post)
    exec(code, {})
    first, second = capsys.readouterr().out.splitlines()
    assert "['image', 'title']" in first
    assert re.search(r"\['title'\] \{'title': (1\.0|0\.9999999)", second)


def test_the_example_of_a_form_is_answered(client):
    (fields,) = re.findall(r"^curl \S+ (-F image.*)$", PAGE, re.MULTILINE)
    assert re.findall(r"-F (\w+)=", fields) == ["image", "title", "audio", "shares"]
    title = re.findall(r"title='([^']*)'", fields)[0]
    files = {"image": ("cat.png", (client.folder / "cat.png").read_bytes()), "title": (None, title)}
    answer = client.post("/predict", files={**files, "shares": (None, "true")}).json()["predictions"][0]
    keys = re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE)
    assert list(answer) == keys
    assert sum(answer["shares"].values()) == pytest.approx(1)


def test_options_and_limits_are_those_of_the_command():
    from mmreg_serve.command import app
    from mmreg_serve.limits import Limits

    options = {option for each in typer.main.get_command(app).params for option in each.opts}
    told = "\n".join(line for line in PAGE.splitlines() if "serving.py" not in line)
    assert set(re.findall(r"(--[a-z][a-z-]*)", told)) <= options
    limits = Limits()
    for told in (f"{limits.bytes // 10**6} MB", f"{limits.rows} rows of", f"{limits.seconds:g} seconds from"):
        assert f"| {told}" in PAGE
    assert f"| {limits.queue_rows} rows that wait; eight of" in PAGE
    assert limits.bodies == 8
