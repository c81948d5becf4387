"""A run that was trained on a hostile table, and its report."""

from __future__ import annotations

from pathlib import Path

import pytest
from hostile import write_hostile

import mmreg


@pytest.fixture(autouse=True)
def _page(report_page: None) -> None:
    """Trainings write their page here."""


@pytest.fixture(scope="session")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run's folder, beside its table; not to be changed."""
    folder = tmp_path_factory.mktemp("hostile")
    recipe = write_hostile(folder)
    mmreg.train(recipe, folder / "run<b>&", device="cpu")
    return folder / "run<b>&"


@pytest.fixture(scope="session")
def hostile_page(hostile: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its report."""
    from mmreg_report.writing import write_report

    return write_report([hostile], tmp_path_factory.mktemp("page") / "report.html", "cpu")
