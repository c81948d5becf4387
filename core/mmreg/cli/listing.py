"""`mmreg list`, `info` and `plugins`: what there is."""

from __future__ import annotations

import re
import shutil
import sys
import textwrap
from typing import Annotated, Any

import typer

from mmreg import registry
from mmreg.cli.output import print_json, print_table
from mmreg.cli.parameters import Debug, Format, FormatOption
from mmreg.components import KINDS

LIST_COLUMNS = ("kind", "name", "level", "summary", "distribution", "version", "status")
PLUGIN_COLUMNS = ("distribution", "version", "entry_point", "status", "brings", "components", "seconds", "note")


def list_components(
    kind: Annotated[
        str | None, typer.Argument(metavar="KIND", help=f"Only one kind: {', '.join(KINDS)}.", show_default=False)
    ] = None,
    format: FormatOption = Format.TABLE,
    debug: Debug = False,
) -> None:
    """List the components that are installed, of every plugin."""
    rows = [registry.row(entry) for entry in registry.specs(kind)]
    if format is Format.JSON:
        print_json(rows)
    else:
        print_table(rows, LIST_COLUMNS)


def info(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="A component: name, or kind/name, dist:name or kind/dist:name where there are several.",
            show_default=False,
        ),
    ],
    format: FormatOption = Format.TABLE,
    debug: Debug = False,
) -> None:
    """Describe a component: its options with types, defaults and bounds, and how a recipe names it."""
    facts = registry.describe(None, name)
    facts["recipe"] = recipe_snippet(facts)
    if format is Format.JSON:
        print_json(facts)
        return
    level = f", {facts['level']} level" if facts["level"] else ""
    print(f"{facts['kind']} {facts['name']}{level}, from {facts['distribution']} {facts['version']}\n")
    print(f"{_for_users(facts['documentation'])}\n")
    if facts["options"]:
        rows = [
            {**option, "default": "(required)" if option["required"] else _default(option["default"])}
            for option in facts["options"]
        ]
        print_table(rows, ("name", "type", "default", "description"), title="Options")
    if facts.get("metrics"):
        print(textwrap.fill(f"Metrics: {', '.join(facts['metrics'])}", 100, initial_indent="\n"))
    print(f"\nIn a recipe:\n{facts['recipe']}")


def plugins(format: FormatOption = Format.TABLE, debug: Debug = False) -> None:
    """List the installed plugins: whether they load, why not, what they bring and how long they take."""
    rows: list[dict[str, Any]] = [
        {
            "distribution": plugin.distribution,
            "version": plugin.version,
            "entry_point": plugin.entry_point,
            "status": plugin.status,
            "error": plugin.error,
            "components": [f"{component.kind}/{component.name}" for component in plugin.components],
            "hooks": list(plugin.hooks),
            "seconds": round(plugin.seconds, 4),
            "warning": plugin.warning,
            "location": plugin.location,
        }
        for plugin in registry.all_plugins()
    ]
    if format is Format.JSON:
        print_json(rows)
        return
    for row in rows:
        brings = ", ".join(hook.removeprefix("mmreg_") for hook in row["hooks"])
        row |= {"brings": brings, "components": len(row["components"]), "note": row["error"] or row["warning"]}
    print_table(rows, PLUGIN_COLUMNS)


def _for_users(documentation: str) -> str:
    """A docstring without what only programmers need; on a terminal its paragraphs are as wide as that is."""
    sections = re.split(r"^(?:Raises|Examples?|Attributes|Returns):$", documentation, flags=re.MULTILINE)
    paragraphs = sections[0].strip().split("\n\n")
    if sys.stdout.isatty():
        width = min(shutil.get_terminal_size().columns, 100)
        paragraphs = [part if re.search(r"^\s", part, re.M) else textwrap.fill(part, width) for part in paragraphs]
    return "\n\n".join(paragraphs)


def recipe_snippet(facts: dict[str, Any]) -> str:
    """The least that a recipe has to say to use a component."""
    name, kind = facts["name"], facts["kind"]
    required = [f"{option['name']}: ..." for option in facts["options"] if option["required"]]
    if kind == "modality":
        return "\n".join(["modalities:", f"  {name}: {{{', '.join([f'column: {name}', *required])}}}"])
    named = f"{{{', '.join([f'name: {name}', *required])}}}" if required else name
    if kind == "encoder":
        return "\n".join(["modalities:", f"  mine: {{type: ..., column: ..., encoder: {named}}}"])
    if kind == "task":
        return f"target: {{{', '.join(['column: ...', f'task: {name}', *required])}}}"
    return f"{kind}: {named}"


def _default(value: Any) -> str:
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)
