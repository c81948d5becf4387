"""`mmreg doctor`: whether the installation is sound, and what to do where it is not."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from mmreg import registry
from mmreg.cli.health import Check, check_libraries, probe
from mmreg.cli.health_together import check_together
from mmreg.console import Debug, Format, FormatOption, print_json, print_table, say
from mmreg.data.cache import cache_dir, cache_use, clear_cache
from mmreg.data.entry import count_unusable
from mmreg.messages import byte_size, plural
from mmreg.registry.installed import Plugin

COLUMNS = ("check", "status", "detail", "advice")
LOW_DISK = 10**9
"""Bytes free on the cache's disk below which that is worth a warning."""


def doctor(
    clear: Annotated[bool, typer.Option("--clear-cache", help="First remove all prepared columns.")] = False,
    format: FormatOption = Format.TABLE,
    debug: Debug = False,
) -> None:
    """Check versions, devices, what several processes need, cache and plugins, and say what to do.

    The exit code is 1 if there is an error.

    Example: mmreg doctor
    """
    if clear:
        use = clear_cache(cache_dir())
        say(f"removed {use.entries:,} prepared columns ({byte_size(use.bytes)}) from {cache_dir()}")
    if sys.stderr.isatty():
        say("importing every library and component ...")
    found, ending = probe()
    checks = [*check_program(), *check_libraries(found, ending), *check_together(found), check_cache(cache_dir())]
    checks += check_plugins(registry.all_plugins())
    if format is Format.JSON:
        print_json([asdict(check) for check in checks])
    else:
        print_table([asdict(check) for check in checks], COLUMNS)
        print(f"\n{summary(checks)}")
    if any(check.status == "error" for check in checks):
        raise typer.Exit(1)


def summary(checks: Iterable[Check]) -> str:
    """The checks in one line."""
    count = {status: sum(check.status == status for check in checks) for status in ("error", "warning")}
    return ", ".join(plural(number, name) for name, number in count.items() if number) or "everything is well"


def check_program() -> list[Check]:
    """Python and mmreg itself."""
    python = f"{platform.python_version()} on {platform.system()} {platform.machine()}, {sys.executable}"
    where = Path(__file__).parent.parent
    return [Check("python", "ok", python), Check("mmreg", "ok", f"{importlib.metadata.version('mmreg')}, {where}")]


def check_cache(root: Path) -> Check:
    """Where prepared columns are kept, how large they are, and whether there is room for more."""
    there = next(path for path in (root.absolute(), *root.absolute().parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        why = f"{there} is no folder" if not there.is_dir() else f"{there} cannot be written to"
        return Check("cache", "error", f"{root}: {why}", "let MMREG_CACHE_DIR name another folder")
    use, free, unusable = cache_use(root), shutil.disk_usage(there).free, count_unusable(root)
    unused = f" ({unusable:,} of them damaged or of an earlier release, which nothing uses)" if unusable else ""
    detail = (
        f"{root}: {use.entries:,} prepared columns{unused}, {byte_size(use.bytes)}; {byte_size(free)} free on its disk"
    )
    if free < LOW_DISK:
        return Check("cache", "warning", detail, "mmreg doctor --clear-cache, or let MMREG_CACHE_DIR name another one")
    return Check("cache", "ok", detail, "mmreg doctor --clear-cache" if unusable else "")


def check_plugins(plugins: list[Plugin]) -> list[Check]:
    """How many plugins work, then each one that does not, or that is worth a word."""
    works = sum(plugin.status == "ok" for plugin in plugins)
    checks = [Check("plugins", "ok", f"{len(plugins)} installed, {works} in use")]
    for plugin in plugins:
        name, note = f"plugin {plugin.entry_point}", f"{plugin.distribution} {plugin.version}"
        without = f"leave it out: --no-plugin {plugin.entry_point}"
        if plugin.status == "failed":
            advice = f"mend it (pip install --upgrade {plugin.distribution}), or uninstall it; the others work"
            checks.append(Check(name, "error", f"{note} failed: {plugin.error}", advice))
        elif plugin.status == "incompatible":
            advice = f"pip install --upgrade mmreg {plugin.distribution}"
            checks.append(Check(name, "error", f"{note} is incompatible: {plugin.error}", advice))
        elif plugin.status == "duplicate":
            advice = f"uninstall it until it is gone, then install it once: pip uninstall {plugin.distribution}"
            checks.append(Check(name, "warning", f"{note} in {plugin.location} is not used: {plugin.error}", advice))
        elif plugin.status == "blocked":
            checks.append(Check(name, "ok", f"{note} is not used: {plugin.error}"))
        elif plugin.warning:
            checks.append(Check(name, "warning", f"{note}: {plugin.warning}", f"tell its author, or {without}"))
    return checks
