"""`mmreg check`: the conformance checks of a component, or of all that a distribution brings."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmreg import registry
from mmreg.console import Debug, Format, FormatOption, print_json, print_table, say
from mmreg.contract.components import CommandSpec, SourceSpec
from mmreg.errors import ComponentImportError
from mmreg.importing import import_target, stdout_to_stderr
from mmreg.messages import one_line, shown
from mmreg.registry import Entry
from mmreg.registry.installed import Plugin, normalize

if TYPE_CHECKING:
    from mmreg.testing import Report
    from mmreg.testing.running import CheckOutcome

COLUMNS = ("component", "check", "result", "detail")


def check(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME_OR_DIST",
            help="A component (name, kind/name, dist:name) or a distribution.",
            show_default=False,
        ),
    ],
    value: Annotated[
        list[str] | None,
        typer.Option(
            "--value",
            metavar="VALUE",
            help="A value that a modality loads (a file's path, or a text), four or more of them; otherwise it is "
            "tried with some texts and arrays.",
            show_default=False,
        ),
    ] = None,
    show_all: Annotated[bool, typer.Option("--all", "-a", help="List the checks that passed as well.")] = False,
    format: FormatOption = Format.TABLE,
    debug: Debug = False,
) -> None:
    """Check that components do what they promise; the exit code is 1 where one does not."""
    plugins = [plugin for plugin in registry.all_plugins() if normalize(plugin.distribution) == normalize(name)]
    entries = [entry for entry in registry.specs() if normalize(entry.distribution) == normalize(name)]
    if not plugins and not entries:
        entries = [registry.find(None, name)]
    with stdout_to_stderr:
        report = run(entries, plugins, value or [])
    rows = [
        {**dataclasses.asdict(result), "result": result.outcome}
        for result in report.results
        if show_all or format is Format.JSON or result.outcome != "passed"
    ]
    if format is Format.JSON:
        results = [{column: row[column] for column in COLUMNS} for row in rows]
        print_json({"ok": report.ok, "summary": report.summary, "results": results})
    else:
        if rows:
            print_table(rows, COLUMNS)
            print()
        print(f"{name}: {report.summary}")
    if not report.ok:
        raise typer.Exit(1)


def _problems(plugin: Plugin) -> Iterator[tuple[str, str]]:
    """What is checked of a plugin itself, and what is wrong with it; empty if nothing is."""
    from mmreg.testing.general import light_module_problem

    if plugin.status == "duplicate":  # another one is used in its place
        return
    yield "loads", "" if plugin.status == "ok" else f"{plugin.status}: {plugin.error}"
    if plugin.status != "ok":
        return
    module = plugin.target.partition("[")[0].strip()
    problem = light_module_problem(module)
    yield "light_module", f"{module} {problem}" if problem else ""
    for hook, item, wanted in (
        ("mmreg_commands", CommandSpec, typer.Typer),
        ("mmreg_sources", SourceSpec, Callable),
    ):
        yield from _targets(plugin, hook, item, wanted)


def _targets(plugin: Plugin, hook: str, item: type[CommandSpec | SourceSpec], wanted: Any) -> Iterator[tuple[str, str]]:
    """What a hook of the plugin lists, imported."""
    if hook not in plugin.hooks:
        return
    try:
        with stdout_to_stderr:
            listed = plugin.hooks[hook]()
        strange = [each for each in listed if not isinstance(each, item)]
    except (Exception, SystemExit) as error:  # a plugin may raise anything
        yield hook, f"it raised {one_line(error)}"
        return
    yield hook, f"it must list {item.__name__}s only, found {shown(strange[0])}" if strange else ""
    for spec in listed:
        if spec in strange:
            continue
        problem = ""
        try:
            found = import_target(spec.target)
            if not isinstance(found, wanted):
                problem = f"its target {spec.target} is {shown(found)}, no {wanted.__name__}"
        except ImportError as error:
            problem = f"its target {spec.target} {error}"
        yield f"{hook}: {spec.name}", problem


def run(entries: list[Entry], plugins: list[Plugin], values: list[str]) -> Report:
    """Check plugins themselves, and components one after the other."""
    from mmreg.testing import Report, Result, run_checks

    report = Report()
    for plugin in plugins:
        for what, problem in _problems(plugin):
            outcome: CheckOutcome = "failed" if problem else "passed"
            report.results.append(Result(f"plugin {plugin.entry_point}", what, outcome, problem))
    for entry in entries:
        material: dict[str, Any] = {}
        if sys.stderr.isatty():
            say(f"checking {entry.spec.kind}/{entry.spec.name}")
        try:
            if values and entry.spec.kind == "modality":
                paths = getattr(registry.load(entry), "paths", False)
                material = {"values": [Path(value).absolute() if paths else value for value in values]}
            report.results += run_checks(entry, **material).results
        except ComponentImportError as error:
            report.results.append(Result(f"{entry.spec.kind}/{entry.spec.name}", "target", "failed", str(error)))
    return report
