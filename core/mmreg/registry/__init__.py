"""The components of every installed plugin, looked up by kind and name, described and built.

The names below are public. Listing imports neither torch nor any component.
"""

from mmreg.registry.describing import ambiguous, describe, row
from mmreg.registry.elsewhere import converse_elsewhere, serve_elsewhere
from mmreg.registry.engines import engine
from mmreg.registry.interfaces import interface
from mmreg.registry.lookup import (
    LOCAL,
    Entry,
    all_plugins,
    build,
    find,
    get,
    load,
    names,
    refresh,
    register,
    specs,
    unregister,
)
from mmreg.registry.lookup import _repr_html_ as _repr_html_
from mmreg.registry.reporting import Section, sections

__all__ = [
    "LOCAL",
    "Entry",
    "Section",
    "all_plugins",
    "ambiguous",
    "build",
    "converse_elsewhere",
    "describe",
    "engine",
    "find",
    "get",
    "interface",
    "load",
    "names",
    "refresh",
    "register",
    "row",
    "sections",
    "serve_elsewhere",
    "specs",
    "unregister",
]
