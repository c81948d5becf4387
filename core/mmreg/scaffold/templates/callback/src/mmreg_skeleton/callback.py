"""A callback: follows a training, and never changes it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from mmreg import Callback, Epoch, FollowedRun


class SkeletonCallback(Callback):
    """Writes a line of JSON for every epoch into the run's folder.

    Args:
        file: the name of the file.
    """

    def __init__(self, *, file: str = "skeleton.jsonl") -> None:
        self.file = file

    def on_start(self, run: FollowedRun, facts: Mapping[str, Any]) -> None:
        """Remove what an earlier training left, unless this one goes on with it."""
        if not facts["resumed_after_epoch"]:
            (run.folder / self.file).unlink(missing_ok=True)

    def on_epoch_end(self, run: FollowedRun, epoch: Epoch) -> None:
        """Add a line: the epoch, and all that was measured."""
        with (run.folder / self.file).open("a", encoding="utf-8") as file:
            file.write(json.dumps(epoch.row()) + "\n")
