"""The hooks that a plugin may implement."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pluggy

from mmreg.components import CommandSpec, ComponentSpec, SourceSpec

if TYPE_CHECKING:
    from mmreg.callbacks import Callback

API_VERSION = 1
"""The number of this contract. A plugin's `mmreg_api` (missing: 1) must equal it."""

hookspec = pluggy.HookspecMarker("mmreg")
hookimpl = pluggy.HookimplMarker("mmreg")
"""Marks a function of a plugin module as the implementation of the hook with its name."""


@hookspec
def mmreg_components() -> Iterable[ComponentSpec]:  # type: ignore[empty-body]
    """Modalities, encoders, fusion operators and tasks.

    Called once, when the registry is first used.

    Returns:
        The components that the plugin brings, as data.
    """


@hookspec
def mmreg_commands() -> Iterable[CommandSpec]:  # type: ignore[empty-body]
    """Commands of the command line.

    Called whenever the command line starts.

    Returns:
        The commands that the plugin adds, as data. One with the name of a command of mmreg's own, or of an earlier
        plugin's, is reported and left out.
    """


@hookspec
def mmreg_callbacks() -> Iterable[Callback]:  # type: ignore[empty-body]
    """Objects that follow a training's events.

    Called once for every training, before it starts.

    Returns:
        The callbacks, freshly made. One that raises is reported; the training goes on.
    """


@hookspec
def mmreg_sources() -> Iterable[SourceSpec]:  # type: ignore[empty-body]
    """Places that tables can be read from.

    Called when a table is named that mmreg itself cannot read.

    Returns:
        The sources that the plugin adds, as data.
    """
