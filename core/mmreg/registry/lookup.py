"""Looking components up by kind and name, describing and building them.

A component is named by `name`, `kind/name`, `dist:name` or `kind/dist:name`, where `dist` is the distribution that
brings it. A bare name that several distributions use is an error that names them.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import MetadataPathFinder
from typing import Any, TypeVar, overload

from mmreg.contract.components import ComponentSpec, check_name
from mmreg.contract.kinds import KINDS
from mmreg.errors import ComponentImportError, ComponentNotFoundError, RegistrationError
from mmreg.importing import import_target
from mmreg.messages import listed, near, plural
from mmreg.notebook import harmless, html_facts, html_table
from mmreg.registry import plugins
from mmreg.registry.interfaces import check_class, level_of
from mmreg.registry.plugins import Plugin, normalize

FEW = 10
"""Names up to this number are listed beside the nearest one."""
LOCAL = "local"
"""The distribution that components registered in this process are listed under."""

Class = TypeVar("Class", bound=type)


@dataclass(frozen=True, repr=False)
class Entry:
    """A component and where it comes from.

    Attributes:
        spec: what its plugin declares.
        distribution: the distribution that brings it; `LOCAL` for one registered in this process.
        version: that distribution's version.
        cls: its class, if it was registered in this process.
    """

    spec: ComponentSpec
    distribution: str
    version: str
    cls: type | None = None

    @property
    def reference(self) -> str:
        """The name that always means this component and no other."""
        return f"{self.distribution}:{self.spec.name}"

    @harmless
    def __repr__(self) -> str:
        return f"<{self.spec.kind} {self.spec.name} of {f'{self.distribution} {self.version}'.rstrip()}>"

    @harmless
    def _repr_html_(self) -> str:
        facts = {"kind": self.spec.kind, "name": self.spec.name, "from": f"{self.distribution} {self.version}"}
        needs = {"level": self.spec.level, "needs": ", ".join(self.spec.requires), "summary": self.spec.summary}
        return html_facts(self.reference, facts | {name: value for name, value in needs.items() if value})


class Entries(list[Entry]):
    """A list of components, which a notebook shows as a table."""

    @harmless
    def _repr_html_(self) -> str:
        rows = (
            {"kind": e.spec.kind, "name": e.spec.name, "from": e.distribution, "summary": e.spec.summary} for e in self
        )
        return html_table(rows, plural(len(self), "component"), len(self))


_lock = threading.RLock()
_plugins: list[Plugin] | None = None
_loading = False
_local: dict[tuple[str, str], Entry] = {}


def all_plugins() -> list[Plugin]:
    """The record of every installed plugin. Discovers them at the first call, and only then.

    A plugin that asks while it is being loaded sees no plugin yet, only what is registered by hand.
    """
    global _plugins, _loading
    with _lock:
        if _plugins is None:
            if _loading:  # the lock lets the same thread in again, and no other
                return []
            _loading = True
            try:
                _plugins = plugins.discover()
            finally:
                _loading = False
        return _plugins


def refresh() -> None:
    """Forget what was discovered, so that the next look-up sees what has been installed since.

    A plugin that failed is tried again. A module that is imported already stays as it is: to use a newer version of a
    plugin that was loaded, start Python anew.
    """
    global _plugins
    with _lock:
        importlib.invalidate_caches()
        MetadataPathFinder().invalidate_caches()  # which Python 3.11 forgets
        _plugins = None


def specs(kind: str | None = None) -> list[Entry]:
    """Every component of a kind (None: of all kinds), sorted by kind, name and distribution; imports none of them.

    Raises:
        ComponentNotFoundError: there is no such kind.
    """
    if kind is not None:
        _check_kind(kind)
    order = list(KINDS)
    return Entries(sorted(entries(kind), key=lambda e: (order.index(e.spec.kind), e.spec.name, e.distribution)))


def entries(kind: str | None, name: str | None = None) -> Iterator[Entry]:
    """Every component of a kind and with a name, or of all."""
    for plugin in all_plugins():
        for spec in plugin.components if plugin.status == "ok" else ():
            if kind in (None, spec.kind) and name in (None, spec.name):
                yield Entry(spec, plugin.distribution, plugin.version)
    for entry in list(_local.values()):
        if kind in (None, entry.spec.kind) and name in (None, entry.spec.name):
            yield entry


def _repr_html_() -> str:
    """What a notebook shows of the registry: the names of each kind, as far as plugins were looked for by now."""
    if _plugins is None:
        return "<p>mmreg.registry: no plugin was looked for yet; mmreg.registry.specs() does, and lists components</p>"
    rows = ({"kind": kind, "components": listed(found, 20)} for kind in KINDS if (found := names(kind)))
    return html_table(rows, f"mmreg.registry: {plural(len(specs()), 'component')}")


def names(kind: str) -> list[str]:
    """The names of a kind's components, each once, sorted."""
    return sorted({entry.spec.name for entry in specs(kind)})


def find(kind: str | None, name: str) -> Entry:
    """The one component that a name means.

    Args:
        kind: its kind; None if the name gives it ("kind/name") or is unique over all kinds.
        name: `name`, `kind/name`, `dist:name` or `kind/dist:name`.

    Raises:
        ComponentNotFoundError: there is none, or more than one; the message says which plugins might have held it.

    Example:
        >>> find("encoder", "image_cnn").spec.summary
        'Convolutional network for images.'
        >>> find(None, "encoder/mmreg:image_cnn") == find("encoder", "image_cnn")
        True
    """
    named_kind, slash, rest = name.rpartition("/")
    if slash:
        if kind is not None and named_kind != kind:
            raise ComponentNotFoundError(f"{name!r} names a {named_kind}, but a {kind} is needed here")
        kind = named_kind
    distribution, _, bare = rest.rpartition(":")
    candidates = [entry for entry in specs(kind) if entry.spec.name == bare]
    matches = [e for e in candidates if not distribution or normalize(e.distribution) == normalize(distribution)]
    if len(matches) == 1:
        return matches[0]
    what = kind or "component"
    if not matches:
        raise ComponentNotFoundError(_not_found(kind, what, distribution, bare, candidates))
    if len({entry.spec.kind for entry in matches}) > 1:
        choices = ", ".join(f"{entry.spec.kind}/{entry.reference}" for entry in matches)
        raise ComponentNotFoundError(f"{name!r} names components of several kinds; say which one: {choices}")
    choices = " or ".join(repr(entry.reference) for entry in matches)
    raise ComponentNotFoundError(f"{what} {bare!r} comes from {len(matches)} distributions; say which one: {choices}")


def get(kind: str, name: str) -> type:
    """The class of a component; imports it.

    Raises:
        ComponentNotFoundError: see `find`.
        ComponentImportError: it is declared but cannot be imported; names the missing package and how to get it.
    """
    return load(find(kind, name))


def load(entry: Entry) -> type:
    """The class of an entry; imports it. Raises as `get` does."""
    if entry.cls is not None:
        return entry.cls
    spec = entry.spec
    what = f"{spec.kind} {spec.name!r} of {entry.distribution} {entry.version}"
    try:
        cls = import_target(spec.target)
    except ImportError as error:
        hint = ""
        if spec.install_hint:
            missing = isinstance(error.__cause__, ModuleNotFoundError)
            hint = f"; install it with: {spec.install_hint}" if missing else f" (perhaps: {spec.install_hint})"
        raise ComponentImportError(f"{what} {error}{hint}") from error.__cause__
    try:
        check_class(spec.kind, spec.level, cls)
    except RegistrationError as error:
        raise ComponentImportError(f"{what}: {error}") from error
    loaded: type = cls
    return loaded


def build(kind: str, name: str | Mapping[str, Any], *arguments: Any, **options: Any) -> Any:
    """A component, built.

    Args:
        kind: its kind.
        name: see `find`; or a mapping of name and options, as an option that is a component has them.
        arguments: what the interface's constructor takes first, such as an encoder's `spec`.
        options: its options, checked; and what the framework passes in by keyword, such as `outputs`. `restored` goes
            to a constructor that asks for it, and is left out for others.

    Raises:
        ComponentNotFoundError: see `find`.
        ComponentImportError: see `get`.
        OptionError: unknown options, wrong types or values out of bounds.

    Example:
        >>> from mmreg import Spec
        >>> build("encoder", "image_cnn", Spec("CHW", (3, 32, 32)), features=64).out_features
        64
    """
    from mmreg.registry.options import check_options  # pydantic, which listing does without
    from mmreg.registry.signature import parameters

    if isinstance(name, str):
        cls = get(kind, name)
    else:
        cls = get(kind, name["name"])
        options = {**{key: value for key, value in name.items() if key != "name"}, **options}
    passed_in = {key: options.pop(key) for key in list(options) if key in getattr(cls, "passed_in", ())}
    if "restored" not in parameters(cls):
        passed_in.pop("restored", None)
    return cls(*arguments, **passed_in, **check_options(cls, options, f"{kind} {name!r}"))


@overload
def register(kind: str, name: str, cls: Class, *, level: str = ..., summary: str = ...) -> Class: ...
@overload
def register(
    kind: str, name: str, cls: None = None, *, level: str = ..., summary: str = ...
) -> Callable[[Class], Class]: ...
def register(kind: str, name: str, cls: Any = None, *, level: str = "", summary: str = "") -> Any:
    """Register a component for this process, as a function or as a decorator: `@register("encoder", "mine")`.

    Registering again from the same module replaces one's own entry, as when a notebook's cell is run once more.

    Args:
        kind: what it is.
        name: the name that recipes use.
        cls: its class; None to get a decorator.
        level: for a fusion, "feature" or "model"; taken from the class if empty.
        summary: one sentence for listings; the first line of the docstring if empty.

    Raises:
        RegistrationError: the kind is unknown, the name is malformed or somebody else's, or the class does not
            implement the interface.
    """
    if cls is None:
        return lambda decorated: register(kind, name, decorated, level=level, summary=summary)
    level = level or level_of(kind, cls)
    try:
        check_name(kind, name, level)
    except ValueError as error:
        raise RegistrationError(str(error)) from error
    check_class(kind, level, cls)
    with _lock:
        for entry in specs(kind):
            own = entry.cls is not None and entry.cls.__module__ == cls.__module__
            if entry.spec.name == name and not own:
                raise RegistrationError(
                    f"{kind} {name!r} is taken by {entry.distribution} ({entry.spec.target}); choose another name"
                )
        summary = summary or (cls.__doc__ or "").strip().partition("\n")[0]
        spec = ComponentSpec(kind, name, f"{cls.__module__}:{cls.__qualname__}", summary, level)
        _local[kind, name] = Entry(spec, LOCAL, "", cls)
    return cls


def unregister(kind: str, name: str) -> None:
    """Take back what `register` did.

    Raises:
        ComponentNotFoundError: nothing was registered in this process under that kind and name.
    """
    with _lock:
        if _local.pop((kind, name), None) is None:
            raise ComponentNotFoundError(f"no {kind} {name!r} was registered in this process")


def _check_kind(kind: str) -> None:
    if kind not in KINDS:
        raise ComponentNotFoundError(f"there is no kind {kind!r}{near(kind, KINDS)}; kinds are {', '.join(KINDS)}")


def _not_found(kind: str | None, what: str, distribution: str, bare: str, same_name: Iterable[Entry]) -> str:
    """The message for a name that means nothing: where else it is, what is near, which plugins might have held it."""
    message = f"there is no {what} {bare!r}" + (f" in a distribution {distribution!r}" if distribution else "")
    elsewhere = sorted({entry.distribution for entry in same_name})
    if elsewhere:
        return f"{message}; it is in {', '.join(elsewhere)}"
    known = sorted({entry.spec.name for entry in specs(kind)})
    hint = near(bare, known)
    sentences = [message + (hint or ".")]
    if not hint or len(known) <= FEW:
        sentences.append(f"Known are {', '.join(known) or 'none'}.")
    lost = [plugin for plugin in all_plugins() if plugin.status not in ("ok", "duplicate")]
    if distribution:
        lost = [plugin for plugin in lost if normalize(plugin.distribution) == normalize(distribution)]
    if lost:
        listed = ", ".join(f"{plugin} {plugin.status}: {plugin.error}" for plugin in lost)
        sentences.append(f"These plugins are not available and might have held it: {listed}.")
    sentences.append("If it belongs to a plugin, pip install that plugin; 'mmreg plugins' shows what is there")
    return " ".join(sentences)
