"""`mmreg check`: the conformance checks of a component, or of all that a distribution brings."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmreg import registry
from mmreg.completion import components
from mmreg.console import Debug, Format, FormatOption, print_json, print_table, say
from mmreg.contract.components import CommandSpec, EngineSpec, SectionSpec, SourceSpec
from mmreg.contract.spec import Specs, specs_from_json
from mmreg.errors import ComponentImportError, OptionError
from mmreg.importing import import_target, stdout_to_stderr
from mmreg.messages import one_line, shown
from mmreg.recipe.yaml import read_yaml
from mmreg.registry import Entry
from mmreg.registry.installed import Plugin, normalize
from mmreg.registry.options import check_options

if TYPE_CHECKING:
    from mmreg.contract.interfaces import Modality
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
            autocompletion=components(),
        ),
    ],
    value: Annotated[
        list[str] | None,
        typer.Option(
            "--value",
            metavar="VALUE",
            help="A value that a modality loads (a file's path, a text, or a list, a number or a mapping as JSON), "
            "four or more of them; otherwise it is tried with some texts and arrays.",
            show_default=False,
        ),
    ] = None,
    spec: Annotated[
        list[str] | None,
        typer.Option(
            "--spec",
            metavar="SPEC",
            help="What an encoder is built for, such as '{axes: TCHW, shape: [null, 3, 8, 8]}'; repeatable.",
            show_default=False,
        ),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(
            "--option",
            metavar="KEY=VALUE",
            help="An option to build the component with, its value as YAML; repeatable.",
            show_default=False,
        ),
    ] = None,
    show_all: Annotated[bool, typer.Option("--all", "-a", help="List the checks that passed as well.")] = False,
    format: FormatOption = Format.TABLE,
    debug: Debug = False,
) -> None:
    """Check that components do what they promise; the exit code is 1 where one does not.

    Example: mmreg check encoder/image_cnn
    """
    plugins = [plugin for plugin in registry.all_plugins() if normalize(plugin.distribution) == normalize(name)]
    entries = [entry for entry in registry.specs() if normalize(entry.distribution) == normalize(name)]
    if not plugins and not entries:
        entries = [registry.find(None, name)]
    if option and len(entries) != 1:
        raise typer.BadParameter(
            f"it is for one component, but {name} stands for {len(entries)}", param_hint="--option"
        )
    options, specs = _options(option or []), [_spec(each) for each in spec or ()]
    with stdout_to_stderr:
        report = run(entries, plugins, values=value or [], specs=specs, options=options)
    for warning in report.warnings:
        say(f"warning: {warning}")
    rows = [
        {**dataclasses.asdict(result), "result": result.outcome}
        for result in report.results
        if show_all or format is Format.JSON or result.outcome != "passed"
    ]
    if format is Format.JSON:
        results = [{column: row[column] for column in COLUMNS} for row in rows]
        data = {"ok": report.ok, "summary": report.summary, "warnings": report.warnings, "results": results}
        print_json(data)
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
        ("mmreg_engines", EngineSpec, type),
        ("mmreg_sections", SectionSpec, Callable),
    ):
        yield from _targets(plugin, hook, item, wanted)


def _targets(
    plugin: Plugin, hook: str, item: type[CommandSpec | EngineSpec | SectionSpec | SourceSpec], wanted: Any
) -> Iterator[tuple[str, str]]:
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


def _options(settings: list[str]) -> dict[str, Any]:
    """The options that KEY=VALUE settings stand for."""
    options = {}
    for setting in settings:
        key, sign, text = setting.partition("=")
        if not sign or not key.strip():
            raise typer.BadParameter(
                f"it needs KEY=VALUE, such as features=8; found {setting!r}", param_hint="--option"
            )
        options[key.strip()] = read_yaml(text, f"--option {key.strip()}")[0]
    return options


def _spec(text: str) -> Specs:
    """The spec that a mapping of its attributes, or of names to such mappings, stands for."""
    try:
        return specs_from_json(read_yaml(text, "--spec")[0])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        told = (
            f"it needs axes and shape, such as {{axes: TCHW, shape: [null, 3, 8, 8]}}; found {text}: {one_line(error)}"
        )
        raise typer.BadParameter(told, param_hint="--spec") from error


def _refuse(word: str) -> Any:
    raise ValueError(f"{word} is a text")


def _value(text: str, cls: type[Modality]) -> Any:
    """A value for a modality as a table gives it: a path, what is JSON (but true, false, null and NaN), or a text."""
    if cls.paths and not cls.multiple_columns:
        return Path(text).absolute()
    try:
        found = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return text
    if cls.multiple_columns and cls.paths and isinstance(found, dict):
        return {key: Path(each).absolute() if isinstance(each, str) else each for key, each in found.items()}
    return text if found is None or isinstance(found, bool) else found


def run(
    entries: list[Entry], plugins: list[Plugin], *, values: list[str], specs: list[Specs], options: dict[str, Any]
) -> Report:
    """Check plugins themselves, and components one after the other."""
    from mmreg.testing import Report, Result, make_subject, run_checks

    report = Report()
    for plugin in plugins:
        for what, problem in _problems(plugin):
            outcome: CheckOutcome = "failed" if problem else "passed"
            report.results.append(Result(f"plugin {plugin.entry_point}", what, outcome, problem))
    for entry in entries:
        material: dict[str, Any] = {"options": options} if options else {}
        name = f"{entry.spec.kind}/{entry.spec.name}"
        if sys.stderr.isatty():
            say(f"checking {name}")
        try:
            cls: Any = registry.load(entry)
            if values and entry.spec.kind == "modality":
                material["values"] = [_value(value, cls) for value in values]
            if specs and entry.spec.kind == "encoder":
                material["specs"] = specs
            if options:
                check_options(cls, options, f"{entry.spec.kind} {entry.spec.name!r}")
            subject = make_subject(entry, **material)
        except ComponentImportError as error:
            report.results.append(Result(name, "target", "failed", str(error)))
        except OptionError:
            raise
        except Exception as error:  # of what the class says to test it with
            report.results.append(Result(name, "material", "failed", one_line(error)))
        else:
            report.results += run_checks(subject).results
    return report
