"""A recipe with a value left open, and that Optuna is there."""

from __future__ import annotations

from pathlib import Path

import pytest
from searches import RECIPE, write_rows

pytest.importorskip("optuna", reason="needs optuna: pip install 'mmreg[tune]'")


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """The recipe's file."""
    write_rows(tmp_path / "table.csv")
    (tmp_path / "search.yaml").write_text(RECIPE)
    return tmp_path / "search.yaml"
