"""`mmreg info`: one component, its options, and how a recipe names it."""

from __future__ import annotations

import re
import shutil
import sys
import textwrap
from typing import Annotated, Any

import typer

from mmreg import registry
from mmreg.completion import components
from mmreg.console import Debug, Format, FormatOption, print_json, print_table
from mmreg.contract.kinds import KINDS


def info(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="A component: name, or kind/name, dist:name or kind/dist:name where there are several.",
            show_default=False,
            autocompletion=components(),
        ),
    ],
    format: FormatOption = Format.TABLE,
    debug: Debug = False,
) -> None:
    """Describe a component: its options with types, defaults and bounds, and how a recipe names it.

    Example: mmreg info encoder/image_cnn
    """
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
    name = facts["name"]
    options = "".join(f", {option['name']}: ..." for option in facts["options"] if option["required"])
    named = f"{{name: {name}{options}}}" if options else name
    return KINDS[facts["kind"]].recipe.format(name=name, named=named, options=options)


def _default(value: Any) -> str:
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)
