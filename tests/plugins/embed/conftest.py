"""Runs whose vectors are looked at, trained once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from vector_runs import contrastive, recipe, table

import mmreg


@pytest.fixture(scope="session")
def fused_run(tmp_path_factory: pytest.TempPathFactory) -> mmreg.Run:
    return mmreg.train(recipe(), tmp_path_factory.mktemp("fused") / "run", device="cpu")


@pytest.fixture(scope="session")
def paired_run(tmp_path_factory: pytest.TempPathFactory) -> mmreg.Run:
    return mmreg.train(contrastive(10), tmp_path_factory.mktemp("paired") / "run", device="cpu")


@pytest.fixture
def rows() -> list[dict[str, Any]]:
    return table()


@pytest.fixture
def rows_file(tmp_path: Path, rows: list[dict[str, Any]]) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    return tmp_path / "rows.parquet"
