"""A web server of the test's own, and a cache that has fetched nothing from it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from web_server import WebServer, serving


@pytest.fixture
def web(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WebServer]:
    monkeypatch.setenv("MMREG_CACHE_DIR", str(tmp_path / "cache"))
    with serving() as server:
        yield server
