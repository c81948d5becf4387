"""A run of pictures, texts and sounds that is served."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import small

import mmreg


@pytest.fixture(scope="session")
def served_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = small.make_folder(tmp_path_factory.mktemp("served"))
    mmreg.train(folder / "recipe.yaml", folder / "run", device="cpu")
    return folder


@pytest.fixture(scope="session")
def run(served_folder: Path) -> mmreg.Run:
    return mmreg.load(served_folder / "run", "cpu")


@pytest.fixture
def client(run: mmreg.Run) -> Iterator[Any]:
    """Of the service of the run."""
    testclient = pytest.importorskip("fastapi.testclient")
    from mmreg_serve.app import create_app

    with testclient.TestClient(create_app(run), base_url="http://localhost") as client:
        yield client


@pytest.fixture(scope="session")
def values(served_folder: Path) -> list[dict[str, Any]]:
    """Rows with what a request gives: the bytes of files, and texts."""
    return [
        {
            "image": (served_folder / row["image"]).read_bytes(),
            "title": row["title"],
            "audio": (served_folder / row["audio"]).read_bytes(),
        }
        for row in small.read_table(served_folder / "table.csv")
    ]
