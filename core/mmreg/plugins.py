"""Discovery: from the installed distributions' entry points to one record a plugin, whatever a plugin does."""

from __future__ import annotations

import contextlib
import importlib.metadata
import logging
import os
import re
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import pluggy

from mmreg import hookspecs
from mmreg.components import ComponentSpec
from mmreg.errors import PluginError

GROUP = "mmreg"
BUNDLED = "mmreg"
"""The distribution whose plugins are the bundled ones."""

Status = Literal["ok", "blocked", "failed", "incompatible", "duplicate"]

logger = logging.getLogger("mmreg")


@dataclass
class Plugin:
    """What became of one entry point.

    Attributes:
        entry_point: its name.
        distribution: the installed distribution that declares it.
        version: the distribution's version; "unknown" where its metadata do not say.
        location: the folder that the distribution was found in.
        target: the module that it names.
        status: "ok"; "blocked" by the user; "failed" with an error; "incompatible" with this core's API; or
            "duplicate", as the same distribution stands earlier on the path.
        error: why it is not "ok", in one line.
        warning: what is wrong although it works.
        seconds: what loading it took.
        components: what it brings.
        cause: the exception behind a failure.
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
    manager: pluggy.PluginManager | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return f"{self.entry_point} ({self.distribution} {self.version})"


def discover() -> list[Plugin]:
    """Load every installed plugin, sorted by distribution and entry point; the bundled ones come first.

    A plugin that cannot be loaded is reported in one line on stderr and recorded; the others are loaded all the same.

    Raises:
        PluginError: a plugin failed and the environment variable MMREG_STRICT is set.
    """
    plugins = []
    for entry_point, plugin in _installed():
        if plugin.status == "ok":
            plugin.status = "blocked" if _is_blocked(plugin) else "ok"
        if plugin.status == "ok":
            _load(plugin, entry_point)
        plugins.append(plugin)
        if plugin.status in ("failed", "incompatible"):
            if os.environ.get("MMREG_STRICT", "") not in ("", "0"):
                raise PluginError(f"plugin {plugin} {plugin.status}: {plugin.error}") from plugin.cause
            logger.warning("mmreg: plugin %s was left out (%s): %s", plugin, plugin.status, plugin.error)
    return plugins


def call_hook(plugins: Iterable[Plugin], name: str, **arguments: Any) -> Iterator[tuple[Plugin, Any]]:
    """What each plugin's implementation of a hook gives; one that raises is reported in one line and left out."""
    for plugin in plugins:
        hook = getattr(plugin.manager.hook, name) if plugin.manager else None
        if plugin.status != "ok" or hook is None or not hook.get_hookimpls():
            continue
        try:
            with contextlib.redirect_stdout(sys.stderr):
                results = hook(**arguments)
        except (Exception, SystemExit) as error:
            logger.warning("mmreg: hook %s of plugin %s failed: %s", name, plugin, _one_line(error))
            continue
        yield from ((plugin, result) for result in results)


def normalize(name: str) -> str:
    """A distribution's name as packaging compares it: lower case, with single hyphens."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _installed() -> list[tuple[importlib.metadata.EntryPoint, Plugin]]:
    """All entry points of the group with a fresh record each, in loading order."""
    found: dict[tuple[str, str], list[tuple[importlib.metadata.EntryPoint, Plugin]]] = {}
    for distribution in importlib.metadata.distributions():
        try:
            text = distribution.read_text("entry_points.txt") or ""
            if f"[{GROUP}]" not in text:
                continue
            entry_points = distribution.entry_points.select(group=GROUP)
            location = str(distribution.locate_file(""))
        except Exception as error:  # metadata can be damaged in any way; the other distributions are not
            logger.warning("mmreg: the metadata of an installed distribution are damaged: %s", _one_line(error))
            continue
        name, version = _name_and_version(distribution)
        for entry_point in entry_points:
            plugin = Plugin(entry_point.name, name, version, location, entry_point.value)
            found.setdefault((normalize(name), entry_point.name), []).append((entry_point, plugin))
    for (_, first), *later in found.values():
        for _, plugin in later:
            plugin.status = "duplicate"
            plugin.error = f"the same distribution stands earlier on the path, in {first.location}"
    order = sorted(found, key=lambda key: (key[0] != BUNDLED, *key))
    return [pair for key in order for pair in found[key]]


def _name_and_version(distribution: importlib.metadata.Distribution) -> tuple[str, str]:
    """From the metadata, or where these are damaged from the name of their folder."""
    name: str | None = None
    version: str | None = None
    with contextlib.suppress(Exception):  # see above
        name, version = distribution.metadata["Name"], distribution.metadata["Version"]
    folder = re.match(
        r"(.+?)(?:-([^-]+))?\.(?:dist|egg)-info$", getattr(getattr(distribution, "_path", None), "name", "")
    )
    return name or (folder[1] if folder else "unknown"), version or (folder[2] if folder else None) or "unknown"


def _names(variable: str) -> set[str] | None:
    """A comma-separated list of plugin or distribution names in the environment; None if it is not set."""
    value = os.environ.get(variable)
    return None if value is None else {normalize(name.strip()) for name in value.split(",") if name.strip()}


def _is_blocked(plugin: Plugin) -> bool:
    own = {normalize(plugin.distribution), normalize(plugin.entry_point)}
    if own & (_names("MMREG_DISABLE_PLUGINS") or set()):
        plugin.error = "blocked by --no-plugin or MMREG_DISABLE_PLUGINS"
        return True
    chosen = _names("MMREG_PLUGINS")
    if chosen is not None and normalize(plugin.distribution) != BUNDLED and not own & chosen:
        plugin.error = "not among MMREG_PLUGINS"
        return True
    return False


def _load(plugin: Plugin, entry_point: importlib.metadata.EntryPoint) -> None:
    """Import the plugin and ask it for its components; what it raises or prints goes into its record or to stderr."""
    had_torch = "torch" in sys.modules
    started = time.perf_counter()
    try:
        with contextlib.redirect_stdout(sys.stderr):
            module = entry_point.load()
            api = getattr(module, "mmreg_api", 1)
            if api != hookspecs.API_VERSION:
                plugin.status = "incompatible"
                plugin.error = f"it is written for mmreg API {api!r}, this mmreg has {hookspecs.API_VERSION}"
                return
            manager = pluggy.PluginManager("mmreg")
            manager.add_hookspecs(hookspecs)
            manager.register(module, name=str(plugin))
            manager.check_pending()
            plugin.components = _components(manager)
            plugin.manager = manager
    except (Exception, SystemExit) as error:
        plugin.status = "failed"
        plugin.error = _one_line(error)
        plugin.cause = error
    finally:
        plugin.seconds = time.perf_counter() - started
        if "torch" in sys.modules and not had_torch:
            plugin.warning = "its light module imports torch, which slows every command down"


def _components(manager: pluggy.PluginManager) -> tuple[ComponentSpec, ...]:
    """What the plugin's hook returns, checked."""
    if not any(hook.get_hookimpls() for hook in vars(manager.hook).values()):
        raise TypeError("it implements no hook; is a function marked with @mmreg.hookimpl missing?")
    components: list[ComponentSpec] = []
    for result in manager.hook.mmreg_components():
        if not isinstance(result, list | tuple):
            raise TypeError(f"mmreg_components must return a list of ComponentSpec, found {result!r}")
        for component in result:
            if not isinstance(component, ComponentSpec):
                raise TypeError(f"mmreg_components must return a list of ComponentSpec, found {component!r} in it")
            if any((component.kind, component.name) == (other.kind, other.name) for other in components):
                raise ValueError(f"it declares the {component.kind} {component.name!r} twice")
            components.append(component)
    return tuple(components)


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
