"""One small table and one trained run for all tests of the command line, which must leave both as they are."""

from __future__ import annotations

from pathlib import Path

import pytest
from small import Called, Caller, call, make_folder


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the table, its recipe and the folder `run`, trained with it."""
    import mmreg

    folder = make_folder(tmp_path_factory.mktemp("trained"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MMREG_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "mmreg-cache"))
        mmreg.train(folder / "recipe.yaml", folder / "run", device="cpu")
    return folder


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Caller:
    """The command line, called in this process."""

    def run(*arguments: str | Path) -> Called:
        return call(monkeypatch, capsys, *map(str, arguments))

    return run


@pytest.fixture
def here(trained: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder with the table and the run, as working directory."""
    monkeypatch.chdir(trained)
    return trained
