"""One small table and one trained run for all tests of the command line, which must leave both as they are."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from small import Called, Caller, call, make_folder

TINY = "encoder: {name: text_rnn, embedding_size: 4, hidden_size: 4, num_layers: 1, features: 4}"
TEXT_ONLY = f"""\
table: table.csv
split: split
target: {{column: label}}
modalities:
  title: {{type: text, {TINY}}}
training: {{epochs: 2, batch_size: 16}}
"""


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the table, its recipe and the folder `run`, trained with it."""
    import mmreg

    folder = make_folder(tmp_path_factory.mktemp("trained"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MMREG_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "mmreg-cache"))
        mmreg.train(folder / "recipe.yaml", folder / "run", device="cpu")
    return folder


@pytest.fixture(autouse=True, scope="session")
def _hears_of_closed_terminals() -> Iterator[None]:
    """Commands that tests start do so as well where the tests themselves were started by nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


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


@pytest.fixture
def text_recipe(here: Path, tmp_path: Path) -> Path:
    """A recipe that trains in no time, in a folder of its own."""
    path = tmp_path / "text.yaml"
    path.write_text(TEXT_ONLY.replace("table.csv", str(here / "table.csv")))
    return path
