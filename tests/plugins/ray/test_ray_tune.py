"""`mmreg tune --on ray`: trials on a cluster of two nodes of which a worker is killed on the way."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

ray = pytest.importorskip("ray", reason="needs Ray: pip install 'mmreg[ray]'")
pytest.importorskip("ray.data", reason="needs Ray Data: pip install 'mmreg[ray]'")
pytest.importorskip("optuna", reason="needs optuna: pip install 'mmreg[tune]'")

import engines
from searches import RECIPE, write_rows

import mmreg
from mmreg_ray.engine import RayEngine
from mmreg_tune import tune

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # Ray's and its libraries' own


class KillingEngine(RayEngine):
    """One of whose workers is killed."""

    def __init__(self, folder: Path) -> None:
        super().__init__("")
        self.folder = folder

    def converse(self, function: Any, shards: Any, answer: Any, **options: Any) -> Generator[tuple[Any, Any]]:
        return super().converse(engines.DiesAsking(function, self.folder), shards, answer, **options)


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    write_rows(tmp_path / "table.csv")
    (tmp_path / "search.yaml").write_text(RECIPE)
    return tmp_path / "search.yaml"


def test_every_trial_has_the_figure_that_its_values_have_here_although_a_worker_is_killed(
    cluster: Any, recipe: Path, tmp_path: Path
) -> None:
    given = {"trials": 10, "device": "cpu", "overrides": ["training.epochs=4"]}
    tuning = tune(recipe, tmp_path / "tuned", on=KillingEngine(tmp_path), **given)
    assert (tmp_path / "killed").is_file()
    assert len(list(tmp_path.glob("node-*"))) == 2
    assert [trial.number for trial in tuning.trials] == list(range(10))
    states = [trial.state for trial in tuning.trials]
    assert set(states) == {"finished", "pruned"}
    assert len({trial.values["training.optimizer.lr"] for trial in tuning.trials}) == 10
    run = mmreg.train(tuning.recipe, tmp_path / "run", device="cpu")
    assert run.report["best"]["value"] == pytest.approx(tuning.best.value, abs=1e-6)
    assert [each.name for each in (tmp_path / "tuned" / "trials").iterdir()] == [f"{tuning.best.number:04}"]
    assert "test" not in mmreg.load(tmp_path / "tuned" / "trials" / f"{tuning.best.number:04}", "cpu").report
    # It goes on, here or there.
    assert len(tune(recipe, tmp_path / "tuned", **{**given, "trials": 11}).trials) == 11


def test_a_search_that_is_stopped_goes_on(cluster: Any, recipe: Path, tmp_path: Path) -> None:
    class Stopping(mmreg.Callback):
        def on_progress(self, what: str, done: int, total: int, note: str = "") -> None:
            stop.wanted |= done == 1

    stop = mmreg.Stop()
    with pytest.raises(mmreg.Stopped):
        tune(recipe, tmp_path / "tuned", trials=6, device="cpu", on="ray", workers=2, callback=Stopping(), stop=stop)
    tuning = tune(recipe, tmp_path / "tuned", trials=6, pruner="none", device="cpu", on="ray")
    assert [trial.state for trial in tuning.trials if trial.state != "pruned"].count("finished") >= 4
    assert len(tuning.trials) == 6
