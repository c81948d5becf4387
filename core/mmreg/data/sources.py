"""Tables by name: files that mmreg reads itself, and places that plugins read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mmreg import registry
from mmreg.contract.components import SourceSpec
from mmreg.data.addresses import SCHEME, check_address, scheme_of
from mmreg.data.cache import cache_dir
from mmreg.data.dialect import TableFile
from mmreg.data.fetched import fetch_limit, fetched_dir
from mmreg.data.files import ENDINGS
from mmreg.data.located import Elsewhere
from mmreg.data.table import Table, read_table
from mmreg.errors import MmregError, TableError
from mmreg.importing import import_target, stdout_to_stderr
from mmreg.messages import near, one_line, plural, shown_address
from mmreg.registry.plugins import Plugin, call_hook


def open_table(
    source: Any,
    folder: Path | None = None,
    *,
    cells: Path | None = None,
    missing: Sequence[str] = (),
    remote: Sequence[str] = (),
) -> Table:
    """A table from anything that `read_table` takes, or from a place that a plugin reads.

    Args:
        source: a path, `scheme://...`, or an object.
        folder: what a relative path is relative to; the current directory if not given.
        cells: what relative paths in the cells of `scheme://...` are relative to; `folder` if not given.
        missing: texts that mark an absent cell.
        remote: addresses from which, and from below which, files that cells name are fetched; beside them, what is on
            the host or in the bucket that the table itself is fetched from.

    Raises:
        TableError: see `read_table`; also if no installed plugin reads from there, two do, or the one cannot.
    """
    here = Elsewhere("", tuple(remote), _fetch)
    if isinstance(source, str | Path):
        source = TableFile(source)
    if not isinstance(source, TableFile):
        return read_table(source, folder, missing=missing).with_elsewhere(here)
    return _open_file(source, folder, cells, missing, here).with_missing(missing).with_elsewhere(here)


def _open_file(
    file: TableFile, folder: Path | None, cells: Path | None, missing: Sequence[str], here: Elsewhere
) -> Table:
    """The table in a file or a place."""
    text = str(file.path)
    scheme = SCHEME.match(text)
    if scheme is not None:
        name = scheme[1].lower()
        found = [pair for pair in sources() if pair[1].name == name]
        if not found:
            raise TableError(_unknown_scheme(name))
        if _only(found, f"{name}://")[1].fetches:
            return _fetched_table(file, text, missing, here)
        _check_plain(file)
        return _read(*_only(found, f"{name}://"), text, cells or folder)
    path = (folder or Path()) / text
    if path.suffix.lower() not in ENDINGS:
        found = [pair for pair in sources() if pair[1].name[0] == "." and path.name.lower().endswith(pair[1].name)]
        if found:
            longest = max(len(spec.name) for _, spec in found)
            found = [pair for pair in found if len(pair[1].name) == longest]
            _check_plain(file)
            return _read(*_only(found, f"*{found[0][1].name}"), str(path.absolute()), path.absolute().parent)
    return read_table(replace(file, path=path), missing=missing)


def _check_plain(file: TableFile) -> None:
    """Refuse a separator or an encoding for what a plugin reads."""
    if file.separator is not None or file.encoding is not None:
        raise TableError(f"{file.path} is read by a plugin: it has no separator and no encoding; leave them out")


def _fetched_table(file: TableFile, address: str, missing: Sequence[str], here: Elsewhere) -> Table:
    """The table in a file that a plugin fetches."""
    check_address(address)
    elsewhere, name = replace(here, base=address), shown_address(address)
    (copy,) = _fetch(scheme_of(address), [address], elsewhere.places)
    if isinstance(copy, str):
        why = shown_address(copy).removeprefix(f"{name} cannot be fetched: ")
        raise TableError(f"the table {name} cannot be fetched: {why}")
    try:
        table = _open_file(replace(file, path=copy), None, None, missing, here)
    except TableError as error:
        raise TableError(str(error).replace(str(copy), name).replace(copy.name, name)) from error
    return Table(table.arrow, name=name, objects=table.objects, elsewhere=elsewhere)


def _fetch(scheme: str, addresses: Sequence[str], allowed: Sequence[str]) -> Sequence[Path | str]:
    """Local copies of files, fetched by the plugin of their scheme; of each that cannot be had, why."""
    found = [pair for pair in sources() if pair[1].name == scheme]
    if not found:
        return [f"no installed plugin fetches files from {scheme}://"] * len(addresses)
    plugin, spec = _only(found, f"{scheme}://")
    if not spec.fetches:
        return [f"{scheme}:// names tables alone, and no files"] * len(addresses)
    folder, limit = fetched_dir(cache_dir()), fetch_limit()
    try:
        fetch = import_target(spec.target)
    except ImportError as error:
        return [f"the source {scheme!r} of {plugin} {error}"] * len(addresses)
    try:
        with stdout_to_stderr:
            copies = list(fetch(list(addresses), folder=folder, allowed=list(allowed), limit=limit))
    except MmregError:
        raise
    except (Exception, SystemExit) as error:  # a plugin may raise anything
        raise TableError(f"{plugin} cannot fetch from {scheme}://: {shown_address(one_line(error))}") from error
    if len(copies) != len(addresses) or not all(isinstance(copy, Path | str) for copy in copies):
        raise TableError(
            f"{plugin} must give a path or a text for each of {plural(len(addresses), 'address', 'addresses')} of "
            f"{scheme}://, which is an error in the plugin"
        )
    return copies


def refused_place(address: str) -> str:
    """Why no files are fetched from below an address; empty where they are."""
    scheme = scheme_of(address)
    found = [spec for _, spec in sources() if spec.name == scheme]
    if any(spec.fetches for spec in found):
        return ""
    known = sorted({spec.name for _, spec in sources() if spec.fetches})
    there = f"there are plugins for {', '.join(f'{each}://' for each in known) or 'none'}"
    if found:
        return f"{scheme}:// names tables alone, from which no files are fetched; {there}"
    return f"no installed plugin fetches files from {scheme}://{near(scheme, known)}; {there}"


def sources() -> list[tuple[Plugin, SourceSpec]]:
    """Every plugin's sources, in the plugins' order."""
    return list(call_hook(registry.all_plugins(), "mmreg_sources", SourceSpec))


def _only(found: list[tuple[Plugin, SourceSpec]], what: str) -> tuple[Plugin, SourceSpec]:
    if len(found) > 1:
        both = " and ".join(str(plugin) for plugin, _ in found)
        raise TableError(f"{what} is read by more than one plugin: {both}; leave one out by --no-plugin")
    return found[0]


def _unknown_scheme(name: str) -> str:
    known = sorted({spec.name for _, spec in sources() if spec.name[0] != "."})
    there = ", ".join(f"{each}://" for each in known) or "none"
    return f"no installed plugin reads tables from {name}://{near(name, known)}; there are plugins for {there}"


def _read(plugin: Plugin, spec: SourceSpec, text: str, folder: Path | None) -> Table:
    """The table that a plugin's source gives for a name."""
    # As messages and a run's folder call it: without a user's name and password.
    name = Path(text).name if spec.name[0] == "." else re.sub(r"//[^/@]*@", "//", text)
    try:
        reader = import_target(spec.target)
    except ImportError as error:
        raise TableError(f"the table {name!r} cannot be read: the source {spec.name!r} of {plugin} {error}") from error
    try:
        with stdout_to_stderr:
            table = read_table(reader(text), folder)
    except MmregError as error:
        raise TableError(f"{name}: {error}") from error
    except (Exception, SystemExit) as error:  # a plugin may raise anything
        raise TableError(f"the table {name!r} cannot be read by {plugin}: {one_line(error)}") from error
    return Table(table.arrow, name=name, folder=folder, objects=table.objects)
