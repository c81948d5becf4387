"""The hooks that a plugin may implement."""

from __future__ import annotations

from collections.abc import Iterable

import pluggy

from mmreg.components import ComponentSpec

API_VERSION = 1
"""The number of this contract. A plugin's `mmreg_api` (missing: 1) must equal it."""

hookspec = pluggy.HookspecMarker("mmreg")
hookimpl = pluggy.HookimplMarker("mmreg")
"""Marks a function of a plugin module as the implementation of the hook with its name."""


@hookspec
def mmreg_components() -> Iterable[ComponentSpec]:  # type: ignore[empty-body]
    """The components that the plugin brings, as data."""
