"""Trials that an engine's workers do: they come to what they come to here, also where a worker dies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from engines import HereEngine
from searches import RECIPE, told, tune, write_rows
from typer.testing import CliRunner

import mmreg
from mmreg import Engine, EngineSpec
from mmreg.errors import EngineError, OptionError, RunError, TrainingError
from mmreg.registry import engines
from mmreg_tune import Tuning
from mmreg_tune.command import app


class Mapping(Engine):
    """An engine that only maps."""

    def __init__(self, address: str = "") -> None: ...

    def map(self, function: Any, shards: Any, total: int, *, accelerator: bool = False) -> Any:
        yield from map(function, shards)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Tuning:
    """A search of ten trials in this process."""
    folder = tmp_path_factory.mktemp("whole")
    write_rows(folder / "table.csv")
    (folder / "search.yaml").write_text(RECIPE)
    return tune(folder / "search.yaml", folder / "tuned", 10, pruner="hyperband")


def test_they_come_to_what_they_come_to_here_and_end_as_early(
    recipe: Path, tmp_path: Path, whole: Tuning, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_rows(tmp_path / "table.csv", other_test=True)  # no trial looks at a test row
    monkeypatch.chdir(tmp_path)
    tuning = tune("search.yaml", Path("tuned"), 10, pruner="hyperband", on=HereEngine())
    assert told(tuning) == told(whole)
    assert {trial.state for trial in tuning.trials} == {"finished", "pruned"}
    assert all(trial.seconds and trial.seconds > 0 for trial in tuning.trials)
    assert tuning.importance == whole.importance
    # The run of the best trial alone is kept, and no lock.
    assert [each.name for each in Path("tuned/trials").iterdir()] == [f"{tuning.best.number:04}"]
    text, other = ((folder / "best.yaml").read_text().splitlines() for folder in (tuning.folder, whole.folder))
    assert text[1] == f"table: {tmp_path}/table.csv"
    assert text[2:] == other[2:]


def test_a_trial_whose_worker_dies_is_gone_on_with(recipe: Path, tmp_path: Path) -> None:
    here = tune(recipe, tmp_path / "here")
    engine = HereEngine(deaths=[2])  # which has told of its first epoch
    assert told(tune(recipe, tmp_path / "there", on=engine)) == told(here)
    assert engine.deaths == []


def test_a_trial_whose_workers_die_over_and_over_has_failed_by_name(recipe: Path, tmp_path: Path) -> None:
    here = tune(recipe, tmp_path / "here")
    tuning = tune(recipe, tmp_path / "there", on=HereEngine(deaths=[4, 0]))
    assert [trial.state for trial in tuning.trials] == ["failed", "finished", "finished"]
    assert tuning.trials[0].reason == "its worker has died 2 times"
    assert told(tuning)[1:] == told(here)[1:]


def test_a_search_that_is_stopped_goes_on_to_what_it_would_have_come_to(recipe: Path, tmp_path: Path) -> None:
    class Stopping(mmreg.Callback):
        def on_progress(self, what: str, done: int, total: int, note: str = "") -> None:
            stop.wanted = "trial 1:" in note  # as it begins

    here, stop = tune(recipe, tmp_path / "here"), mmreg.Stop()
    with pytest.raises(mmreg.Stopped):
        tune(recipe, tmp_path / "there", on=HereEngine(), callback=Stopping(), stop=stop)
    assert (tmp_path / "there" / "trials" / "0001").is_dir()
    assert told(tune(recipe, tmp_path / "there", on=HereEngine())) == told(here)


def test_what_every_trial_would_meet_ends_the_search(recipe: Path, tmp_path: Path) -> None:
    tune(recipe, tmp_path / "tuned", 1)
    table = recipe.parent / "table.csv"
    table.write_text("\n".join(table.read_text().splitlines()[:-1]) + "\n")
    with pytest.raises(RunError, match="rows of the table have changed"):
        tune(recipe, tmp_path / "tuned", on=HereEngine())


def test_a_search_whose_trials_all_fail_ends_and_says_why(recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(
        TrainingError, match=r"all 5 trials so far have failed\n  5 trials, first 0: its worker has died"
    ):
        tune(recipe, tmp_path / "tuned", 9, on=HereEngine(deaths=[0] * 10))


def test_an_engine_that_only_maps_is_refused(recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="the engine Mapping only maps"):
        tune(recipe, tmp_path / "tuned", on=Mapping())
    with pytest.raises(OptionError, match="name it, as by --on ray"):
        tune(recipe, tmp_path / "tuned", workers=2)


def test_the_command_is_told_where_to_work(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = [("mine", EngineSpec("here", "engines:HereEngine"))]
    monkeypatch.setattr(engines, "call_hook", lambda plugins, name, item: iter(found))
    arguments = [str(recipe), "-n", "2", "--on", "here", "--workers", "1", "--device", "cpu", "--format", "json"]
    result = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "tuned")])
    assert result.exit_code == 0, result.output
    assert [trial["state"] for trial in json.loads(result.stdout)["trials"]] == ["finished"] * 2
    assert "[2/2]" in result.stderr
