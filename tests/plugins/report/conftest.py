"""A run that was trained on a hostile table, and its report."""

from __future__ import annotations

from pathlib import Path

import pytest
from hostile import write_hostile

import mmreg
from mmreg.studies.compare import run_grid


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


@pytest.fixture(scope="session")
def compared(hostile: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a comparison of two operators on the hostile table."""
    folder = tmp_path_factory.mktemp("compared") / "operators<b>"
    run_grid(hostile.parent / "recipe.yaml", folder, fusions=["concat", "mean"], seeds=[0, 1], device="cpu", jobs=1)
    return folder


@pytest.fixture(scope="session")
def comparison_page(hostile: Path, compared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of several runs: the hostile one, and one of the comparison's."""
    from mmreg_report.writing import write_report

    other = next((compared / "runs").glob("concat/*"))
    return write_report([hostile, other], tmp_path_factory.mktemp("page") / "comparison.html", "cpu")


@pytest.fixture(scope="session")
def compared_page(compared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of the comparison."""
    from mmreg_report.writing import write_report

    return write_report([compared], tmp_path_factory.mktemp("page") / "compared.html", "cpu")
