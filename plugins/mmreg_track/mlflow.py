"""A training's figures in an experiment of MLflow."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

from mmreg import FollowedRun
from mmreg.messages import shortened
from mmreg_track.tracker import Every, Tracker

MOST_PARAMETERS = 100
"""Parameters that a server takes at a time."""
LONGEST_VALUE = 490
"""Characters of a parameter's value, of which older servers take 500."""
FILES = ("recipe.yaml", "report.json")


class MLflow(Tracker):
    """Logs to MLflow by its client, which leaves a run of `mlflow.start_run` alone.

    Args:
        experiment: the experiment, made if it is not there.
        uri: where it is logged to, such as http://localhost:5000 or sqlite:///mlflow.db; what MLFLOW_TRACKING_URI says,
            or MLflow's own choice, if not given.
        run: the run's name; the folder's if not given.
        every: steps between two losses that are logged, each of which waits for the device; 0 for none.
    """

    def __init__(
        self, *, experiment: str = "mmreg", uri: str | None = None, run: str | None = None, every: Every = 50
    ) -> None:
        super().__init__(every)
        self._experiment, self._uri, self._name = experiment, uri, run

    def open(self, run: FollowedRun, parameters: Mapping[str, Any]) -> None:
        """See `Tracker`."""
        from mlflow.entities import Param
        from mlflow.tracking import MlflowClient

        self._client = MlflowClient(tracking_uri=self._uri)
        there = self._client.get_experiment_by_name(self._experiment)
        experiment = there.experiment_id if there else self._client.create_experiment(self._experiment)
        name = self._name or run.folder.absolute().name
        self._id = self._client.create_run(experiment, run_name=name).info.run_id
        given = [Param(name, shortened(str(value), LONGEST_VALUE)) for name, value in parameters.items()]
        for start in range(0, len(given), MOST_PARAMETERS):
            self._client.log_batch(self._id, params=given[start : start + MOST_PARAMETERS])

    def log(self, figures: Mapping[str, float], step: int) -> None:
        """See `Tracker`; what is not finite is left out, as not every server takes it."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        finite = {name: value for name, value in figures.items() if math.isfinite(value)}
        self._client.log_batch(self._id, metrics=[Metric(name, value, now, step) for name, value in finite.items()])

    def close(self, run: FollowedRun | None) -> None:
        """See `Tracker`; recipe and report are kept as artifacts."""
        files = [] if run is None else [run.folder / name for name in FILES]
        for path in files:
            if path.is_file():
                self._client.log_artifact(self._id, str(path))
        self._client.set_terminated(self._id, "KILLED" if run is None else "FINISHED")
