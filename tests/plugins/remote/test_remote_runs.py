"""A recipe whose files are elsewhere, from training to predicting; and a service, which fetches nothing."""

from __future__ import annotations

import csv
import io
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from needs import needs
from small import call
from web_server import WebServer

import mmreg
from mmreg.errors import MmregError

needs("aiohttp", "remote")


def picture(bright: bool) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (8, 8), (200 * bright, 0, 0)).save(file, "PNG")
    return file.getvalue()


def publish(web: WebServer, base: str = "") -> str:
    """A table of forty pictures, bright ones and dark ones, on the server; its address."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["image", "label", "split"])
    for number in range(40):
        split = "train" if number < 24 else "validation" if number < 32 else "test"
        writer.writerow([f"{base}img/{number}.png", ["dark", "bright"][number % 2], split])
        web.files[f"/d/img/{number}.png"] = picture(number % 2 == 1)
    web.files["/d/t.csv"] = text.getvalue().encode()
    return f"{web.address}/d/t.csv"


def write(folder: Path, table: str, **more: Any) -> Path:
    image = {"type": "image", "column": "image", "size": 8, "encoder": "image_cnn"}
    recipe = {
        "table": table,
        "split": "split",
        "target": {"column": "label", "task": "classification"},
        "modalities": {"image": image},
        "training": {"epochs": 1, "batch_size": 8},
        **more,
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return path


def test_a_run_finds_its_table_and_files_elsewhere_again(web: WebServer, tmp_path: Path) -> None:
    address = publish(web)
    trained = mmreg.train(write(tmp_path, address), tmp_path / "run", device="cpu")
    assert web.gets() == 41
    loaded = mmreg.load(tmp_path / "run", device="cpu")
    assert loaded.evaluate() == trained.report["test"]
    assert [row["modalities"] for row in loaded.predict(address)] == ["image"] * 40
    assert web.gets() == 41  # nothing has changed
    assert yaml.safe_load((tmp_path / "run/recipe.yaml").read_text())["table"] == address


def test_a_table_here_and_files_elsewhere_need_the_recipes_word(web: WebServer, tmp_path: Path) -> None:
    publish(web, base=f"{web.address}/d/")
    (tmp_path / "t.csv").write_bytes(web.files["/d/t.csv"])
    with pytest.raises(MmregError, match="files elsewhere are not fetched"):
        mmreg.train(write(tmp_path, "t.csv"), tmp_path / "no", device="cpu")
    assert web.asked == {}
    run = mmreg.train(write(tmp_path, "t.csv", remote=[f"{web.address}/d/"]), tmp_path / "run", device="cpu")
    again = mmreg.load(tmp_path / "run", device="cpu")
    assert again.evaluate() == run.report["test"]
    assert [row["modalities"] for row in again.predict([{"image": f"{web.address}/d/img/3.png"}])] == ["image"]
    with pytest.raises(MmregError, match="and not from http://169"):
        again.predict([{"image": "http://169.254.169.254/latest.png"}])


def test_a_recipe_is_drafted_from_a_table_elsewhere(web: WebServer) -> None:
    from mmreg.data.dialect import TableFile
    from mmreg.recipe.draft import draft_recipe

    drafted = yaml.safe_load(draft_recipe(TableFile(publish(web)), "label"))
    assert drafted["table"] == f"{web.address}/d/t.csv"
    assert drafted["modalities"]["image"]["type"] == "image"


def test_the_copies_are_listed_and_removed_with_the_cache(
    web: WebServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from mmreg.data.sources import open_table

    cli = partial(call, monkeypatch, capsys)

    address = publish(web)
    open_table(address)
    assert "and 1 copy of fetched files" in cli("cache", "list").err
    assert "fetched" not in cli("cache", "prune").out
    assert "1 copy of fetched files" in cli("cache", "prune", "--fetched", "--dry-run").out
    assert "would be removed" in cli("cache", "prune", "--fetched", "--dry-run").out
    assert "1 copy of fetched files" in cli("cache", "prune", "--fetched").out
    open_table(address)
    assert web.asked["GET", "/d/t.csv"] == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"remote": ["datasets://x"]}, "remote.0: datasets:// names tables alone, from which no files are fetched"),
        ({"remote": ["file:///data/"]}, "remote.0: no installed plugin fetches files from file://; there are plugins"),
        ({"remote": ["images/"]}, "must begin with a scheme and a host or bucket"),
        ({"remote": ["https://"]}, "must begin with a scheme and a host or bucket"),
        ({"remote": ["https://me:hunter2@host/"]}, "credentials are read from the environment alone"),
        ({"table": "https://me:hunter2@host/t.csv"}, "credentials are read from the environment alone"),
        ({"table": {"train": "https://host/t.csv?sig=hunter2"}}, "credentials are read from the environment alone"),
    ],
)
def test_a_recipe_with_a_credential_is_refused_before_anything_is_written(
    changes: dict[str, Any], message: str, tmp_path: Path, web: WebServer
) -> None:
    recipe = write(tmp_path, **{"table": "t.csv", **changes})
    with pytest.raises(MmregError, match=message) as caught:
        mmreg.train(recipe, tmp_path / "run", device="cpu")
    recipe.unlink()
    assert "hunter2" not in str(caught.value)
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or b"hunter2" not in path.read_bytes()


def test_a_service_fetches_nothing_that_a_request_names(web: WebServer, tmp_path: Path) -> None:
    pytest.importorskip("fastapi", reason="needs the extra serve")
    from fastapi.testclient import TestClient

    from mmreg_serve.app import create_app

    address = publish(web)
    run = mmreg.train(write(tmp_path, address, remote=[web.address]), tmp_path / "run", device="cpu")
    asked = dict(web.asked)
    with TestClient(create_app(run)) as client:
        for value in (f"{web.address}/d/img/1.png", "img/1.png", {"path": f"{web.address}/d/img/1.png"}):
            answer = client.post("/predict", json={"rows": [{"image": value}]})
            assert answer.status_code in (400, 422)
    assert dict(web.asked) == asked
