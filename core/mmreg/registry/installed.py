"""What is installed: the entry points of every distribution, however damaged its metadata are, and packages."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import Distribution, DistributionFinder
from pathlib import Path
from typing import Any, Literal

from mmreg.contract.components import ComponentSpec
from mmreg.messages import one_line, printable, shown

GROUP = "mmreg"
BUNDLED = "mmreg"
"""The distribution whose plugins are the bundled ones."""

logger = logging.getLogger("mmreg")

Status = Literal["ok", "blocked", "failed", "incompatible", "duplicate"]


@dataclass
class Plugin:
    """What became of one entry point.

    Attributes:
        entry_point: its name; "?" where the distribution's entry points cannot be read.
        distribution: the installed distribution that declares it.
        version: the distribution's version; "unknown" where its metadata do not say.
        location: the folder of the distribution's metadata.
        target: the module that it names.
        status: "ok"; "blocked" by the user; "failed" with an error; "incompatible" with this core's API; or
            "duplicate", as the same distribution stands earlier on the path.
        error: why it is not "ok", in one line.
        warning: what is wrong although it works.
        seconds: what loading it took.
        components: what it brings.
        cause: the exception behind a failure.
        hooks: its implementations of hooks, by the hook's name; empty if it is not "ok".
    """

    entry_point: str
    distribution: str
    version: str
    location: str
    target: str
    status: Status = "ok"
    error: str = ""
    warning: str = ""
    seconds: float = 0.0
    components: tuple[ComponentSpec, ...] = ()
    cause: BaseException | None = field(default=None, repr=False)
    hooks: dict[str, Callable[[], Any]] = field(default_factory=dict, repr=False)

    def __str__(self) -> str:
        return f"{self.entry_point} ({self.distribution} {self.version})"


def find_plugins() -> list[Plugin]:
    """A fresh record of every entry point of the group, sorted by distribution and name; the bundled ones come first.

    Of a distribution that is there more than once, the one that stands first on the path comes first and the others
    are duplicates. Within a folder, a wheel's metadata come before an egg's, and later versions before earlier ones.
    """
    found: dict[tuple[str, str], list[Plugin]] = {}
    for distribution in _distributions():
        for plugin in _declared(distribution):
            found.setdefault((normalize(plugin.distribution), plugin.entry_point), []).append(plugin)
    order = sorted(found, key=lambda key: (key[0] != BUNDLED, *key))
    return [plugin for key in order for plugin in _in_order(found[key])]


def normalize(name: str) -> str:
    """A distribution's name as packaging compares it: lower case, with single hyphens."""
    return re.sub(r"[-_.]+", "-", name).lower()


def missing(packages: Iterable[str]) -> list[str]:
    """Those of some packages that cannot be found; imports none of them.

    Args:
        packages: top-level names, as they are imported.
    """
    return [name for name in packages if not _is_there(name)]


def _is_there(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ValueError:  # it is imported already, by something else than the import system
        return True


def _in_order(same: list[Plugin]) -> list[Plugin]:
    """The records of one plugin, all but the first marked; a folder that stands on the path twice counts once."""
    if len(same) == 1:
        return same
    places: dict[tuple[Path, str], Plugin] = {}
    for plugin in same:
        places.setdefault((Path(plugin.location).resolve(), plugin.target), plugin)
    folders = [path.parent for path, _ in places]
    first, *others = sorted(
        places.values(), key=lambda plugin: (folders.index(Path(plugin.location).resolve().parent), _rank(plugin))
    )
    for plugin in others:
        plugin.status = "duplicate"
        plugin.error = f"{first.distribution} {first.version} in {first.location} comes first"
    return [first, *others]


def _rank(plugin: Plugin) -> tuple[bool, list[int], str]:
    """The order of one distribution's metadata within a folder."""
    later_first = [-int(number) for number in re.findall(r"\d+", plugin.version)]
    return plugin.location.endswith(".egg-info"), later_first, plugin.location


def _distributions() -> Iterator[Distribution]:
    """Every installed distribution, in the order of the path; a finder that fails takes no other one down."""
    for finder in list(sys.meta_path):
        find = getattr(finder, "find_distributions", None)
        try:
            yield from find(DistributionFinder.Context()) if find is not None else ()
        except Exception as error:  # packages bring finders of their own
            logger.warning("mmreg: %s cannot list what is installed: %s", shown(finder), one_line(error))


def _declared(distribution: Distribution) -> list[Plugin]:
    """The records of a distribution's plugins; one that failed if its entry points cannot be read."""
    folder = getattr(distribution, "_path", None)  # the only way to tell apart two that lie side by side
    folder_name = getattr(folder, "name", "")
    if folder_name.startswith("~"):  # what an interrupted pip left behind
        return []
    try:
        if f"[{GROUP}]" not in (distribution.read_text("entry_points.txt") or ""):
            return []
        declared = [(entry.name, entry.value) for entry in distribution.entry_points if entry.group == GROUP]
        status: Status = "ok"
        why = ""
    except Exception as error:  # a file may hold anything
        declared, status, why = [("?", "")], "failed", f"its entry points cannot be read: {one_line(error)}"
    name, version = _name_and_version(distribution, folder_name)
    location = str(folder or distribution.locate_file(""))
    return [Plugin(printable(entry), name, version, location, target, status, why) for entry, target in declared]


def _name_and_version(distribution: Distribution, folder_name: str) -> tuple[str, str]:
    """From the metadata, or where these are damaged from the name of their folder."""
    named = re.fullmatch(r"(.+?)(?:-([^-]+))?(?:-py\d.*)?\.(?:dist|egg)-info", folder_name)
    name, version = (named[1], named[2]) if named else ("unknown", None)
    text = ""
    with contextlib.suppress(Exception):  # see above
        text = distribution.read_text("METADATA") or distribution.read_text("PKG-INFO") or ""
    # The whole of it need not be parsed: a long description would take longer than all else.
    headers = text.partition("\n\n")[0]
    if found := re.search(r"^Name:[ \t]*([A-Za-z0-9][A-Za-z0-9._-]*)[ \t]*$", headers, re.MULTILINE | re.IGNORECASE):
        name = found[1]
    if found := re.search(r"^Version:[ \t]*(\S+)[ \t]*$", headers, re.MULTILINE | re.IGNORECASE):
        version = found[1]
    return printable(name), printable(version or "unknown")
