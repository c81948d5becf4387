"""Components as plain data, for listings and pages."""

from __future__ import annotations

from typing import Any

from mmreg.contract.components import ComponentSpec
from mmreg.registry.installed import missing
from mmreg.registry.lookup import Entry, entries, find, load
from mmreg.registry.signature import documentation


def describe(kind: str | None, name: str) -> dict[str, Any]:
    """A component as plain data: where it comes from, its documentation and its options; imports it.

    Raises:
        ComponentNotFoundError: see `find`.
        ComponentImportError: see `get`.
    """
    from mmreg.registry.options import describe_options  # see above

    entry = find(kind, name)
    cls = load(entry)
    facts = {**row(entry), "documentation": documentation(cls), "options": describe_options(cls)}
    return {**facts, "metrics": list(cls.metrics)} if hasattr(cls, "metrics") else facts  # a task's


def row(entry: Entry) -> dict[str, Any]:
    """An entry as one row of a listing."""
    spec = entry.spec
    return {
        "kind": spec.kind,
        "name": spec.name,
        "level": spec.level,
        "summary": spec.summary,
        "distribution": entry.distribution,
        "version": entry.version,
        "status": _status(entry),
    }


def _status(entry: Entry) -> str:
    """How it is with an entry: "ok", or what to do about it; imports nothing."""
    return needs(entry.spec) or (f"ambiguous: use {entry.reference}" if ambiguous(entry) else "ok")


def needs(spec: ComponentSpec) -> str:
    """The packages that a component lacks here, such as "needs onnx: pip install ..."; empty if none. No imports."""
    lacking = missing(spec.requires)
    if not lacking:
        return ""
    return f"needs {', '.join(lacking)}" + (f": {spec.install_hint}" if spec.install_hint else "")


def ambiguous(entry: Entry) -> bool:
    """Whether another distribution brings a component of the same kind and name, so that the bare name is an error."""
    return any(other != entry for other in entries(entry.spec.kind, entry.spec.name))
