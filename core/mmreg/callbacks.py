"""Following a training: what plugins can do at its events, without being able to disturb it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mmreg import registry
from mmreg.plugins import call_hook

if TYPE_CHECKING:
    from mmreg.runs import Run

logger = logging.getLogger("mmreg")


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
        """All files of the run are written.

        Args:
            run: as above.
            report: what report.json holds.
        """


class Callbacks:
    """Every plugin's callbacks for one training; one that raises is reported in one line and left out from then on."""

    def __init__(self) -> None:
        self._callbacks: list[tuple[str, Callback]] = []
        for plugin, made in call_hook(registry.all_plugins(), "mmreg_callbacks"):
            if isinstance(made, Sequence) and all(isinstance(callback, Callback) for callback in made):
                self._callbacks += [(str(plugin), callback) for callback in made]
            else:
                logger.warning(
                    "mmreg: plugin %s: mmreg_callbacks must return a list of Callback, found %r", plugin, made
                )

    def tell(self, event: str, *arguments: Any) -> None:
        """Call an event's method of every callback."""
        for pair in list(self._callbacks):
            name, callback = pair
            try:
                getattr(callback, event)(*arguments)
            except Exception as error:  # whatever it is, it is not the training's
                self._callbacks.remove(pair)
                what = f"{type(callback).__name__}.{event}"
                logger.warning("mmreg: %s of plugin %s failed: %s: %s", what, name, type(error).__name__, error)
