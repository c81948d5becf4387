"""The components of every installed plugin, looked up by kind and name, described and built.

The names below are public. Listing imports neither torch nor any component.
"""

from mmreg.registry.describing import ambiguous, describe, row
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
    "describe",
    "find",
    "get",
    "interface",
    "load",
    "names",
    "refresh",
    "register",
    "row",
    "sections",
    "specs",
    "unregister",
]
