"""The hooks that a plugin may implement: each returns a list, and none takes an argument."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pluggy

from mmreg.contract.components import CommandSpec, ComponentSpec, EngineSpec, SectionSpec, SourceSpec

if TYPE_CHECKING:
    from mmreg.contract.callback import Callback

API_VERSION = 1
"""The number of this contract. A plugin's `mmreg_api` (missing: 1) must equal it."""

hookspec = pluggy.HookspecMarker("mmreg")
hookimpl = pluggy.HookimplMarker("mmreg")
"""Marks a function of a plugin module as the implementation of the hook with its name."""


@hookspec
def mmreg_components() -> Sequence[ComponentSpec]:  # type: ignore[empty-body]
    """All that a recipe can name: modalities, encoders, fusion operators, tasks, metrics, optimizers and so on.

    Called once, when the registry is first used.

    Returns:
        A list of the components that the plugin brings, as data.
    """


@hookspec
def mmreg_commands() -> Sequence[CommandSpec]:  # type: ignore[empty-body]
    """Commands of the command line.

    Called when the command line's help is shown, or a command is called that is not mmreg's own.

    Returns:
        A list of the commands that the plugin adds, as data. One with the name of a command of mmreg's own, or of an
        earlier plugin's, is reported and left out.
    """


@hookspec
def mmreg_callbacks() -> Sequence[Callback]:  # type: ignore[empty-body]
    """Objects that follow the events of every training, besides those that a recipe names.

    Called once for every training, before it starts.

    Returns:
        A list of callbacks, freshly made. One that raises is reported and left out; the training goes on.
    """


@hookspec
def mmreg_sources() -> Sequence[SourceSpec]:  # type: ignore[empty-body]
    """Places that tables can be read from.

    Called when a table is named by `scheme://...`, or by a file with an ending that mmreg itself does not read.

    Returns:
        A list of the sources that the plugin adds, as data. A place that two plugins read is an error that names both.
    """


@hookspec
def mmreg_engines() -> Sequence[EngineSpec]:  # type: ignore[empty-body]
    """What predicts and prepares large tables, searches and serves in other processes, of this machine or of many.

    Called when a command is told where to work by `--on NAME`.

    Returns:
        A list of the engines that the plugin adds, as data. A name that two plugins bring is an error that names both.
    """


@hookspec
def mmreg_sections() -> Sequence[SectionSpec]:  # type: ignore[empty-body]
    """Sections of the report of a run.

    Called when `mmreg report` or `mmreg plot` is, never by a training.

    Returns:
        A list of the sections that the plugin adds, as data. One with the name of the report's own, or of an earlier
        plugin's, is reported and left out.
    """
