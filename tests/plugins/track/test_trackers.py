"""Trackers: what is logged, with the real packages where they are installed, and what is said where they are not."""

from __future__ import annotations

import csv
import importlib.util
import json
import shutil
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import toys
from toys import Listening, StopAt, train

from mmreg import FollowedRun, registry
from mmreg.errors import RecipeError
from mmreg.training.stopping import Stopped
from mmreg_track.tracker import Tracker, flat
from mmreg_track.wandb import WandB

FUSED: dict[str, Any] = {"fusion": "product", "overrides": ["training.epochs=2"]}
PACKAGES = ("tensorboard", "mlflow", "wandb", "trackio")


@pytest.fixture(autouse=True)
def _toys() -> None:
    toys.register()


def measured(folder: Path) -> dict[str, list[float]]:
    """The columns of metrics.csv under the names that trackers have for them."""
    with (folder / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    report = json.loads((folder / "report.json").read_text())
    curve = {
        "train/loss": [float(row["train_loss"]) for row in rows],
        "validation/accuracy": [float(row["validation_accuracy"]) for row in rows],
        "validation/a/accuracy": [float(row["validation_a_accuracy"]) for row in rows],
        "learning_rate": [float(row["learning_rate"]) for row in rows],
    }
    return {**curve, "final/test/accuracy": [report["test"]["metrics"]["accuracy"]]}


class Logging(Tracker):
    """Keeps what it is to log.

    Args:
        every: see `Tracker`.
        fails: whether it does.
    """

    opened: Mapping[str, Any] = {}
    logged: list[tuple[int, dict[str, float]]] = []  # noqa: RUF012
    closed: list[bool] = []  # noqa: RUF012

    def __init__(self, *, every: int = 4, fails: bool = False) -> None:
        super().__init__(every)
        self.fails = fails

    def open(self, run: FollowedRun, parameters: Mapping[str, Any]) -> None:
        type(self).opened = parameters
        self.logged.clear()
        self.closed.clear()

    def log(self, figures: Mapping[str, float], step: int) -> None:
        if self.fails:
            raise ConnectionError("the server is gone")
        self.logged.append((step, dict(figures)))

    def close(self, run: FollowedRun | None) -> None:
        self.closed.append(run is not None)


@pytest.fixture
def logging() -> Iterator[type[Logging]]:
    registry.register("callback", "logging", Logging)
    yield Logging
    registry.unregister("callback", "logging")


def test_recipe_losses_epochs_and_final_figures_are_logged(tmp_path: Path, logging: type[Logging]) -> None:
    run = train(tmp_path / "run", callbacks=[{"name": "logging"}], **FUSED)
    assert logging.opened["training.optimizer.lr"] == 0.01
    assert logging.opened["run.steps"] == 16
    assert logging.opened["run.rows.train"] == 120
    assert [step for step, figures in logging.logged if "train/step_loss" in figures] == [4, 8, 12, 16]
    for name, values in measured(run.folder).items():
        assert [figures[name] for _, figures in logging.logged if name in figures] == pytest.approx(values), name
    steps = [step for step, _ in logging.logged]
    assert steps == sorted(steps)  # some servers take no step that is before the last one
    assert logging.closed == [True]


def test_losses_are_read_only_when_asked_for(tmp_path: Path, logging: type[Logging]) -> None:
    train(tmp_path / "run", callbacks=[{"name": "logging", "every": 0}], **FUSED)
    assert not [figures for _, figures in logging.logged if "train/step_loss" in figures]


def test_a_tracker_that_fails_ends_no_training(
    tmp_path: Path, logging: type[Logging], caplog: pytest.LogCaptureFixture
) -> None:
    run = train(tmp_path / "run", callbacks=[{"name": "logging", "fails": True}], **FUSED)
    assert run.report["epochs"] == 2
    assert "is left out of this training: Logging.on_step raised ConnectionError: the server is gone" in caplog.text


def test_nested_data_become_dotted_names() -> None:
    data = {"a": {"b": 1, "c": {"d": None}}, "e": [1, {"f": 2}], "g": {}, "h": True}
    expected = {"a.b": 1, "a.c.d": None, "e": '[1, {"f": 2}]', "g": "{}", "h": True}
    assert dict(flat(data)) == expected


@pytest.mark.parametrize("name", PACKAGES)
def test_a_missing_package_is_told_before_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda each, *more: None if each == name else find(each, *more))
    with pytest.raises(RecipeError, match=rf"callbacks.*{name} needs {name}: pip install 'mmreg\[{name}\]'"):
        train(tmp_path / "run", callbacks=[{"name": name}], **FUSED)
    assert not (tmp_path / "run").exists()


def test_a_run_is_loaded_where_its_tracker_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import mmreg

    run = train(tmp_path / "run", **FUSED)
    recipe = run.folder / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("callbacks: []", "callbacks: [{name: 'mmreg:wandb'}]"))
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda each, *more: None if each == "wandb" else find(each, *more))
    assert mmreg.load(run.folder, device="cpu").predict(toys.rows(3))


def test_tensorboard_reads_what_was_written(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = train(tmp_path / "run", callbacks=[{"name": "tensorboard", "every": 4}], **FUSED)
    events = EventAccumulator(str(run.folder / "tensorboard"))
    events.Reload()
    for name, values in measured(run.folder).items():
        assert [each.value for each in events.Scalars(name)] == pytest.approx(values, rel=1e-6), name
    assert [each.step for each in events.Scalars("train/step_loss")] == [4, 8, 12, 16]
    assert "training.optimizer.lr" in str(events.Tensors("parameters/text_summary")[0])


def test_tensorboard_of_an_earlier_training_gives_way(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    for _ in range(2):
        run = train(tmp_path / "run", overwrite=True, callbacks=["tensorboard"], **FUSED)
    assert len(list((run.folder / "tensorboard").iterdir())) == 1


class Copying(Listening):
    """Copies the event files before a step, as a kill would leave them, and stops the training."""

    def __init__(self, run: Path, step: int) -> None:
        super().__init__()
        self.run, self.step = run, step

    def on_gradients(self, step: int) -> None:
        if step == self.step:
            shutil.copytree(self.run / "tensorboard", self.run.with_name("left"))
            raise KeyboardInterrupt


def date_back(run: Path) -> None:
    """Let the event files be of earlier: they are read in the order of their names, which hold the second."""
    for file in (run / "tensorboard").iterdir():
        second = file.name.split(".")[3]
        file.rename(file.with_name(file.name.replace(second, f"{int(second) - 60:010d}")))


def assert_tensorboard_has_all(folder: Path) -> None:
    """Each of sixteen steps, and each of two epochs, once."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    assert [each.step for each in events.Scalars("train/step_loss")] == list(range(1, 17))
    for name, values in measured(folder).items():
        assert [each.value for each in events.Scalars(name)] == pytest.approx(values, rel=1e-6), name
    assert [each.step for each in events.Scalars("validation/accuracy")] == [8, 16]


@pytest.mark.parametrize("step", [3, 8, 12])
def test_tensorboard_goes_on_with_a_training_that_was_stopped(tmp_path: Path, step: int) -> None:
    pytest.importorskip("tensorboard")
    settings = {**FUSED, "callbacks": [{"name": "tensorboard", "every": 1}]}
    stop = StopAt(step)
    with pytest.raises(Stopped):
        train(tmp_path / "run", callback=stop, stop=stop.stop, **settings)
    date_back(tmp_path / "run")
    assert_tensorboard_has_all(train(tmp_path / "run", resume=True, **settings).folder)


@pytest.mark.parametrize("step", [7, 14])
def test_tensorboard_loses_nothing_by_a_kill(tmp_path: Path, step: int) -> None:
    pytest.importorskip("tensorboard")
    overrides = [*FUSED["overrides"], "training.checkpoint={minutes: null, steps: 3}"]
    settings = {**FUSED, "overrides": overrides, "callbacks": [{"name": "tensorboard", "every": 1}]}
    run = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        train(run, callback=Copying(run, step), **settings)
    shutil.rmtree(run / "tensorboard")
    (tmp_path / "left").rename(run / "tensorboard")
    date_back(run)
    assert_tensorboard_has_all(train(run, resume=True, **settings).folder)


@pytest.mark.filterwarnings("ignore")  # the package's own
def test_mlflow_has_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    from mlflow.tracking import MlflowClient

    uri = (tmp_path / "store").as_uri()
    callback = {"name": "mlflow", "uri": uri, "experiment": "toys", "every": 4}
    run = train(tmp_path / "run", callbacks=[callback], **FUSED)
    client = MlflowClient(tracking_uri=uri)
    (logged,) = client.search_runs([client.get_experiment_by_name("toys").experiment_id])
    assert logged.info.status == "FINISHED"
    assert logged.info.run_name == "run"
    assert logged.data.params["training.optimizer.lr"] == "0.01"
    for name, values in measured(run.folder).items():
        found = [each.value for each in client.get_metric_history(logged.info.run_id, name)]
        assert found == pytest.approx(values), name
    assert {each.path for each in client.list_artifacts(logged.info.run_id)} == {"recipe.yaml", "report.json"}


@pytest.mark.filterwarnings("ignore")
def test_wandb_logs_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    summary: dict[str, Any] = {}
    close = WandB.close

    def closed(self: WandB, run: FollowedRun | None) -> None:
        logged = self._run
        logged.log({}, commit=True)  # what the last step has is kept back otherwise
        summary.update(dict(logged.summary), project=logged.project, name=logged.name, config=dict(logged.config))
        close(self, run)

    monkeypatch.setattr(WandB, "close", closed)
    run = train(tmp_path / "run", callbacks=[{"name": "wandb", "project": "toys", "every": 4}], **FUSED)
    assert (summary["project"], summary["name"]) == ("toys", "run")
    assert summary["config"]["training.optimizer.lr"] == 0.01
    for name, values in measured(run.folder).items():
        assert summary[name] == pytest.approx(values[-1]), name
    assert list((run.folder / "wandb").glob("offline-run-*/*.wandb"))


@pytest.mark.filterwarnings("ignore")
def test_trackio_logs_on_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    pytest.importorskip("trackio")
    import trackio.sqlite_storage
    import trackio.utils

    for module in (trackio.utils, trackio.sqlite_storage):  # read when they were imported
        monkeypatch.setattr(module, "TRACKIO_DIR", tmp_path / "trackio")
    run = train(tmp_path / "run", callbacks=[{"name": "trackio", "project": "toys", "every": 4}], **FUSED)
    with sqlite3.connect(tmp_path / "trackio" / "toys.db") as database:
        rows = [(step, json.loads(text)) for step, text in database.execute("select step, metrics from metrics")]
    for name, values in measured(run.folder).items():
        assert [each[name] for _, each in rows if name in each] == pytest.approx(values), name
