"""The engines that plugins bring, chosen by `--on NAME` or `--on NAME:ADDRESS`."""

from __future__ import annotations

from mmreg.contract.components import EngineSpec
from mmreg.contract.engine import Engine
from mmreg.errors import MissingPackageError, OptionError, PluginError
from mmreg.importing import import_target, stdout_to_stderr
from mmreg.messages import near
from mmreg.registry.lookup import all_plugins
from mmreg.registry.plugins import call_hook


def engine(text: str) -> Engine:
    """The engine that a text names, such as "ray" or "ray:10.0.0.5:6379", with its address after the first colon.

    Raises:
        OptionError: no installed plugin brings it, or two do.
        MissingPackageError: it cannot be imported, as where a package is missing.
        PluginError: what the plugin names is no engine.
        EngineError: its workers cannot be reached.
    """
    name, _, address = text.partition(":")
    specs = list(call_hook(all_plugins(), "mmreg_engines", EngineSpec))
    chosen = [(plugin, spec) for plugin, spec in specs if spec.name == name]
    if not chosen:
        names = sorted({spec.name for _, spec in specs})
        there = near(name, names) or f"; there is {', '.join(names) or 'none'}"
        raise OptionError(f"no installed plugin brings an engine {name!r}{there}")
    if len(chosen) > 1:
        both = " and ".join(str(plugin) for plugin, _ in chosen)
        raise OptionError(f"more than one plugin brings an engine {name!r}: {both}; leave one out by --no-plugin")
    plugin, spec = chosen[0]
    try:
        cls = import_target(spec.target)
    except ImportError as error:
        hint = f"; {spec.install_hint}" if spec.install_hint else ""
        raise MissingPackageError(f"the engine {name!r} {error}{hint}") from error
    if not (isinstance(cls, type) and issubclass(cls, Engine)):
        raise PluginError(f"the engine {name!r} of plugin {plugin} must be a class of mmreg.Engine, found {cls!r}")
    with stdout_to_stderr:
        made: Engine = cls(address)
    return made
