"""Tables by name: files that mmreg reads itself, and places that plugins read."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from mmreg import registry
from mmreg.components import SourceSpec
from mmreg.data.table import Table, read_table
from mmreg.errors import MmregError, TableError
from mmreg.plugins import call_hook


def open_table(source: Any, folder: Path | None = None) -> Table:
    """A table from anything that `read_table` takes, or from a place that a plugin reads.

    Args:
        source: a path, `scheme://...`, or an object.
        folder: what a relative path is relative to; the current directory if not given.

    Raises:
        TableError: see `read_table`; also if no installed plugin reads from there, or the plugin cannot.
    """
    if not isinstance(source, str | Path):
        return read_table(source, folder)
    text = str(source)
    scheme = text.partition("://")[0] if "://" in text else ""
    path = text if scheme else str((folder or Path()) / text)
    spec = next((spec for spec in sources() if spec.name == (scheme or Path(text).suffix.lower())), None)
    if spec is not None:
        return read_table(_read(spec, path), folder)
    if scheme:
        there = ", ".join(f"{spec.name}://" for spec in sources() if not spec.name.startswith(".")) or "none"
        raise TableError(f"no installed plugin reads tables from {scheme}://...; there are plugins for {there}")
    return read_table(path)


def _read(spec: SourceSpec, text: str) -> Any:
    """What a plugin's source gives for a table's name."""
    module, _, attribute = spec.target.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)(text)
    except MmregError:
        raise
    except Exception as error:  # a plugin may raise anything
        raise TableError(
            f"the table {text!r} cannot be read ({spec.target}): {type(error).__name__}: {error}"
        ) from error


def sources() -> list[SourceSpec]:
    """Every plugin's sources, in the plugins' order."""
    return [
        spec
        for _, specs in call_hook(registry.all_plugins(), "mmreg_sources")
        for spec in specs
        if isinstance(spec, SourceSpec)
    ]
