"""A training's figures in a project of Weights & Biases, or of Trackio, which has the same interface."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

from mmreg import FollowedRun
from mmreg_track.tracker import Every, Tracker


class _Project(Tracker):
    """What both have in common.

    Args:
        project: the project.
        run: the run's name; the folder's if not given.
        every: steps between two losses that are logged, each of which waits for the device; 0 for none.
    """

    def __init__(self, *, project: str = "mmreg", run: str | None = None, every: Every = 50) -> None:
        super().__init__(every)
        self._project, self._name = project, run

    def open(self, run: FollowedRun, parameters: Mapping[str, Any]) -> None:
        """See `Tracker`."""
        name = self._name or run.folder.absolute().name
        self._run = self.begin(run, project=self._project, name=name, config=dict(parameters))

    @abstractmethod
    def begin(self, run: FollowedRun, **options: Any) -> Any:
        """The package's own run, begun."""

    def log(self, figures: Mapping[str, float], step: int) -> None:
        """See `Tracker`."""
        self._run.log(dict(figures), step=step)

    def close(self, run: FollowedRun | None) -> None:
        """See `Tracker`."""
        self._run.finish()


class WandB(_Project):
    """Logs to Weights & Biases; `wandb login`, WANDB_MODE=offline and the like are its own affair.

    Its files are in the run's folder, where `wandb sync` finds what was logged offline.
    """

    def begin(self, run: FollowedRun, **options: Any) -> Any:
        """See `_Project`; what the terminal shows is not sent."""
        import wandb

        settings = wandb.Settings(console="off", silent=True)
        return wandb.init(dir=run.folder, settings=settings, reinit="create_new", **options)


class Trackio(_Project):
    """Logs to Trackio, on this machine: `trackio show` opens its dashboard, TRACKIO_DIR says where its files are."""

    def begin(self, run: FollowedRun, **options: Any) -> Any:
        """See `_Project`."""
        import trackio

        return trackio.init(embed=False, **options)
