"""Discovery: every installed plugin loaded into one record, and its hooks called, whatever a plugin does."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

import pluggy

from mmreg.contract import hookspecs
from mmreg.contract.components import ComponentSpec
from mmreg.errors import PluginError
from mmreg.importing import import_target, stdout_to_stderr
from mmreg.messages import near, one_line, printable, shown
from mmreg.registry.installed import BUNDLED, Plugin, find_plugins, normalize

__all__ = ["BUNDLED", "SLOW", "Plugin", "call_hook", "discover", "leave_out", "normalize", "report"]

SLOW = 1.0
"""Seconds from which on loading a plugin counts as slow: every command that uses the registry waits for it."""

logger = logging.getLogger("mmreg")

Item = TypeVar("Item")


def discover() -> list[Plugin]:
    """Load every installed plugin, in the order of `find_plugins`.

    A plugin that cannot be loaded is reported in one line on stderr and recorded; the others are loaded all the same.
    Nothing is kept on disk, so nothing can go stale.

    Raises:
        PluginError: a plugin failed and the environment variable MMREG_STRICT is set.
    """
    manager = pluggy.PluginManager("mmreg")
    manager.add_hookspecs(hookspecs)
    found = find_plugins()
    _warn_of_unknown_names(found)
    declared: dict[tuple[str, str, str], Plugin] = {}
    for plugin in found:
        blocked = _why_blocked(plugin)
        if blocked and plugin.status != "duplicate":
            plugin.status, plugin.error = "blocked", blocked
        if plugin.status == "ok":
            _load(plugin, manager)
        if plugin.status == "ok":
            _claim(plugin, declared)
        if plugin.status in ("failed", "incompatible"):
            report(plugin, f"is left out ({plugin.status}): {plugin.error}", plugin.cause)
    return found


def call_hook(plugins: Iterable[Plugin], name: str, item: type[Item]) -> Iterator[tuple[Plugin, Item]]:
    """What the plugins' implementations of a hook list, one by one, with the plugin that listed it.

    An implementation that raises, or lists anything but `item`, is reported in one line and left out.
    """
    for plugin in plugins:
        try:
            with stdout_to_stderr:
                listed = _call(plugin.hooks, name, item)
        except PluginError as error:
            report(plugin, str(error), error)
            continue
        yield from ((plugin, each) for each in listed)


def report(plugin: Plugin | str, what: str, cause: BaseException | None = None) -> None:
    """Say in one line on stderr what is wrong with a plugin (or one of its components, as a text).

    It is raised instead if MMREG_STRICT is set.

    Worker processes are silent, as the process that started them has said it.

    Raises:
        PluginError: MMREG_STRICT is set.
    """
    who = plugin if isinstance(plugin, str) else f"plugin {plugin}"
    if os.environ.get("MMREG_STRICT", "") not in ("", "0"):
        raise PluginError(f"{who} {what}") from cause
    if not _is_worker():
        logger.warning("mmreg: %s %s", who, what)


def _is_worker() -> bool:
    """Whether another process of this training or preparation reports what this one would."""
    process: Any = sys.modules.get("multiprocessing.process")  # a process that was started by it has it
    return os.environ.get("LOCAL_RANK", "0") != "0" or (process is not None and process.parent_process() is not None)


def leave_out(names: Iterable[str]) -> None:
    """Block plugins by their own or their distribution's names, here and in the processes started from here."""
    os.environ["MMREG_DISABLE_PLUGINS"] = ",".join(filter(None, [os.environ.get("MMREG_DISABLE_PLUGINS"), *names]))


def _why_blocked(plugin: Plugin) -> str:
    own = {normalize(plugin.distribution), normalize(plugin.entry_point)}
    if own & (_names("MMREG_DISABLE_PLUGINS") or set()):
        return "blocked by --no-plugin or MMREG_DISABLE_PLUGINS"
    chosen = _names("MMREG_PLUGINS")
    if chosen is not None and normalize(plugin.distribution) != BUNDLED and not own & chosen:
        return "not among MMREG_PLUGINS"
    return ""


def _warn_of_unknown_names(found: Iterable[Plugin]) -> None:
    """Say which names to leave out are no plugin's: they are slips, or of what has been uninstalled."""
    known = {normalize(name) for plugin in found for name in (plugin.entry_point, plugin.distribution)}
    for name in sorted((_names("MMREG_DISABLE_PLUGINS") or set()) - known):
        if not _is_worker():
            hint = near(name, sorted(known)) or "; 'mmreg plugins' lists what is installed"
            logger.warning(
                "mmreg: --no-plugin or MMREG_DISABLE_PLUGINS names %r, which is no plugin%s", printable(name), hint
            )


def _names(variable: str) -> set[str] | None:
    """A comma-separated list of plugin or distribution names in the environment; None if it is not set."""
    value = os.environ.get(variable)
    return None if value is None else {normalize(name.strip()) for name in value.split(",") if name.strip()}


def _load(plugin: Plugin, manager: pluggy.PluginManager) -> None:
    """Import a plugin and ask it for its components; what goes wrong is kept in its record."""
    had_torch = "torch" in sys.modules
    started = time.perf_counter()
    try:
        with stdout_to_stderr:
            _fill(plugin, manager)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a plugin may raise anything, such as sys.exit does
        plugin.status = "failed"
        plugin.error = one_line(error)
        plugin.cause = error.__cause__ or error
    plugin.seconds = time.perf_counter() - started
    if "torch" in sys.modules and not had_torch:
        plugin.warning = f"its light module imports torch: every command waits {plugin.seconds:.1f} s for it"
    elif plugin.seconds >= SLOW:
        plugin.warning = f"it is slow to load: every command waits {plugin.seconds:.1f} s for it"


def _claim(plugin: Plugin, declared: dict[tuple[str, str, str], Plugin]) -> None:
    """Note whose a component's name is; a plugin that brings one of its own distribution's again has failed.

    Of different distributions both stay, as `distribution:name` tells them apart.
    """
    own = {(normalize(plugin.distribution), each.kind, each.name): plugin for each in plugin.components}
    for key in own:
        if key in declared:
            plugin.status = "failed"
            plugin.error = f"it declares the {key[1]} {key[2]!r}, as {declared[key]} does"
            plugin.components, plugin.hooks = (), {}
            return
    declared.update(own)


def _fill(plugin: Plugin, manager: pluggy.PluginManager) -> None:
    try:
        module = import_target(plugin.target.partition("[")[0])
    except ImportError as error:
        raise PluginError(f"it {error}") from error.__cause__
    api = getattr(module, "mmreg_api", 1)
    if api != hookspecs.API_VERSION:
        plugin.status = "incompatible"
        plugin.error = f"it is written for mmreg API {shown(api)}, this mmreg has {hookspecs.API_VERSION}"
        return
    hooks = _implementations(module, str(plugin), manager)
    components = _call(hooks, "mmreg_components", ComponentSpec)
    names = [(component.kind, component.name) for component in components]
    for at, (kind, name) in enumerate(names):
        if (kind, name) in names[:at]:
            raise PluginError(f"it declares the {kind} {name!r} twice")
    plugin.components = tuple(components)
    plugin.hooks = hooks


def _implementations(module: Any, name: str, manager: pluggy.PluginManager) -> dict[str, Callable[[], Any]]:
    """A plugin's implementations of hooks, checked against the specifications.

    Raises:
        PluginError: it implements no hook, or one that there is not.
        pluggy.PluginValidationError: it implements one with an argument that the hook does not have.
    """
    known = [name for name in vars(hookspecs) if name.startswith("mmreg_")]
    found: dict[str, Callable[[], Any]] = {}
    try:
        manager.register(module, name)
        for hook in manager.get_hookcallers(module) or ():
            for each in hook.get_hookimpls():  # of this plugin alone, as no other one is registered
                if hook.name in found:
                    raise PluginError(f"it implements {hook.name} twice")
                if hook.has_spec():
                    found[hook.name] = each.function
                elif not each.optionalhook:
                    raise PluginError(
                        f"there is no hook {hook.name!r}{near(hook.name, known)}; hooks are {', '.join(known)}"
                    )
    finally:
        if manager.has_plugin(name):
            manager.unregister(name=name)
    if not found:
        raise PluginError("it implements no hook; is a function marked with @mmreg.hookimpl missing?")
    return found


def _call(hooks: Mapping[str, Callable[[], Any]], name: str, item: type[Item]) -> list[Item]:
    """What an implementation of a hook lists; empty if there is none.

    Raises:
        PluginError: it raises, or gives anything but a list of such items.
    """
    if name not in hooks:
        return []
    try:
        result = hooks[name]()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise PluginError(f"{name} raised {one_line(error)}") from error
    wanted = f"{name} must return a list of {item.__name__}"
    if not isinstance(result, list | tuple):
        raise PluginError(f"{wanted}, found {shown(result)}")
    for each in result:
        if not isinstance(each, item):
            raise PluginError(f"{wanted}, found {shown(each)} in it")
    return list(result)
