"""Following a training: what plugins can do at its events, without being able to disturb it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmreg.runs import Run


class Callback:
    """Follows one training; a plugin overrides what it needs. Everything it gets but the run is plain data."""

    def on_start(self, run: Run, facts: Mapping[str, Any]) -> None:
        """Training begins.

        Args:
            run: its folder, recipe and model; the model is not trained yet.
            facts: device, precision, rows of each split, parameters, epochs and steps.
        """

    def on_epoch_end(self, run: Run, row: Mapping[str, Any]) -> None:
        """An epoch is done.

        Args:
            run: as above; the model has the weights of this epoch.
            row: the epoch's line of metrics.csv.
        """

    def on_evaluation(self, run: Run, split: str, result: Mapping[str, Any]) -> None:
        """A split was measured with the weights that the run keeps.

        Args:
            run: as above; the model has these weights.
            split: "validation" or "test".
            result: as `Run.evaluate` gives it.
        """

    def on_end(self, run: Run, report: Mapping[str, Any]) -> None:
        """All files of the run are written. Of runs that were combined it is the only event.

        Args:
            run: as above, or the combination.
            report: what report.json holds.
        """
