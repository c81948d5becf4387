"""Telling those who follow a training of its events: the caller's callback, the recipe's, and every plugin's."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from mmreg import registry
from mmreg.contract.callback import Callback
from mmreg.importing import stdout_to_stderr
from mmreg.messages import one_line
from mmreg.recipe.components import Component
from mmreg.regions import region
from mmreg.registry.plugins import Plugin, call_hook, report


class Followers:
    """Passes every event on.

    All but the caller's callback get facts of their own that they may change; one that raises is reported in one line
    and left out from then on.

    Args:
        own: the caller's callback, such as the terminal's; what it raises is raised.
        chosen: the callbacks that the recipe names.
        profile: the one that measures where the time goes, if that is asked.
    """

    def __init__(
        self, own: Callback | None = None, chosen: Sequence[Component] = (), profile: Callback | None = None
    ) -> None:
        self._own = own or Callback()
        self._others: list[tuple[Plugin | str, Callback]] = [] if profile is None else [("the profile", profile)]
        for component in chosen:
            self._others.append((f"callback {component.entry.reference} {component.entry.version}", component.build()))
        self._others += call_hook(registry.all_plugins(), "mmreg_callbacks", Callback)

    @classmethod
    def nobody(cls) -> Followers:
        """No one at all, as where another process tells of the same training."""
        followers = cls.__new__(cls)
        followers._own, followers._others = Callback(), []
        return followers

    def tell(self, event: str, *facts: Any) -> None:
        """Call an event's method, such as "on_end", of all who have one."""
        with region("callbacks"):
            self._tell(event, facts)

    def _tell(self, event: str, facts: Sequence[Any]) -> None:
        getattr(self._own, event)(*facts)
        for pair in list(self._others):
            plugin, callback = pair
            if getattr(type(callback), event) is getattr(Callback, event):
                continue
            try:
                with stdout_to_stderr:
                    getattr(callback, event)(*(copy.deepcopy(f) if isinstance(f, Mapping) else f for f in facts))
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # whatever it is, it is not the training's
                self._others.remove(pair)
                what = f"is left out of this training: {type(callback).__name__}.{event} raised {one_line(error)}"
                report(plugin, what, error)

    def has(self, event: str) -> bool:
        """Whether somebody follows an event."""
        callbacks = [self._own, *(callback for _, callback in self._others)]
        return any(getattr(type(callback), event) is not getattr(Callback, event) for callback in callbacks)

    def message(self, text: str) -> None:
        """Tell something that a person should know."""
        self.tell("on_message", text)

    def preparing(self, done: int, total: int, name: str) -> None:
        """Tell how many of a modality's values are decoded."""
        self.tell("on_progress", f"preparing {name}", done, total)
