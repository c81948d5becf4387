"""Every plugin's callbacks for one training, which can follow it without being able to disturb it."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from mmreg import registry
from mmreg.contract.callback import Callback
from mmreg.importing import stdout_to_stderr
from mmreg.messages import one_line
from mmreg.registry.plugins import call_hook, report

if TYPE_CHECKING:
    from mmreg.runs.run import Run


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
