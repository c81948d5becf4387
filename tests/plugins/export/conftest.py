"""The table, and runs on it in a folder of the test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from export_runs import export_table, trained_run

import mmreg

Trained = Callable[..., mmreg.Run]


@pytest.fixture(scope="session")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_table(tmp_path_factory.mktemp("export"))


@pytest.fixture
def trained(table: Path, tmp_path: Path) -> Trained:
    """`trained_run` in a folder of the test."""

    def train(*given: Any, folder: str = "run", **target: Any) -> mmreg.Run:
        return trained_run(table, tmp_path / folder, *given, **target)

    return train
