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


@pytest.fixture(scope="session")
def compared(hostile: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a comparison of two operators on the hostile table."""
    folder = tmp_path_factory.mktemp("compared") / "operators<b>"
    runs = {name: folder / "runs" / name / "seed-0" for name in ("concat", "mean")}
    for name, run in runs.items():
        mmreg.train(hostile.parent / "recipe.yaml", run, overrides=[f"fusion={name}"], device="cpu")
    mmreg.compare(runs, resamples=200).write(folder)
    return folder


@pytest.fixture(scope="session")
def comparison_page(hostile: Path, compared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of several runs: the hostile one, and one of the comparison's."""
    from mmreg_report.writing import write_report

    runs = [hostile, compared / "runs" / "concat" / "seed-0"]
    return write_report(runs, tmp_path_factory.mktemp("page") / "comparison.html", "cpu")


@pytest.fixture(scope="session")
def compared_page(compared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of the comparison."""
    from mmreg_report.writing import write_report

    return write_report([compared], tmp_path_factory.mktemp("page") / "compared.html", "cpu")
