"""Following a training: what plugins can do at its events, without being able to disturb it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mmreg import registry
from mmreg.importing import one_line, stdout_to_stderr
from mmreg.plugins import call_hook, report

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


class Callbacks:
    """Every plugin's callbacks for one training; one that raises is reported in one line and left out from then on."""

    def __init__(self) -> None:
        self._callbacks = list(call_hook(registry.all_plugins(), "mmreg_callbacks", Callback))

    def tell(self, event: str, run: Run, *facts: Any) -> None:
        """Call an event's method of every callback, each with facts of its own that it may change."""
        for pair in list(self._callbacks):
            plugin, callback = pair
            try:
                with stdout_to_stderr:
                    getattr(callback, event)(run, *copy.deepcopy(facts))
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # whatever it is, it is not the training's
                self._callbacks.remove(pair)
                what = f"is left out of this training: {type(callback).__name__}.{event} raised {one_line(error)}"
                report(plugin, what, error)
