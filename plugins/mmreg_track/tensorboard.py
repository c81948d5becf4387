"""A training's figures as TensorBoard's event files."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from typing import Any

from mmreg import FollowedRun
from mmreg.files import markdown_table
from mmreg_track.tracker import Every, Tracker

FOLDER = "tensorboard"


class TensorBoard(Tracker):
    """Writes event files into the folder `tensorboard` of the run, for `tensorboard --logdir`.

    Of a training that goes on, what the steps that are done again had logged is hidden.

    Args:
        every: steps between two losses that are logged, each of which waits for the device; 0 for none.
    """

    def __init__(self, *, every: Every = 50) -> None:
        super().__init__(every)

    def on_start(self, run: FollowedRun, facts: Mapping[str, Any]) -> None:
        """Open, at the first step that is to come."""
        self._done = facts["resumed_after_step"]
        super().on_start(run, facts)

    def open(self, run: FollowedRun, parameters: Mapping[str, Any]) -> None:
        """See `Tracker`."""
        from torch.utils.tensorboard import SummaryWriter

        folder = run.folder / FOLDER
        if not self._done and not folder.is_symlink():
            shutil.rmtree(folder, ignore_errors=True)
        self._writer = SummaryWriter(folder, purge_step=self._done + 1 if self._done else None)
        rows = [{"name": name, "value": value} for name, value in parameters.items()]
        self._writer.add_text("parameters", markdown_table(rows))

    def log(self, figures: Mapping[str, float], step: int) -> None:
        """See `Tracker`."""
        for name, value in figures.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self, run: FollowedRun | None) -> None:
        """See `Tracker`."""
        self._writer.close()
