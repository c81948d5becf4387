"""`mmreg new-plugin`: the project of a new plugin."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmreg.console import Debug, say
from mmreg.messages import to_type
from mmreg.scaffold import PREFIX, SUMMARIES, new_plugin, package_name


def new_plugin_command(
    name: Annotated[str, typer.Argument(help=f"The distribution's name, such as {PREFIX}depth.", show_default=False)],
    kind: Annotated[
        str,
        typer.Option(
            "--kind", metavar="KIND", help=f"What it brings, one of {', '.join(SUMMARIES)}.", show_default=False
        ),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder to write NAME into.")] = Path(),
    debug: Debug = False,
) -> None:
    """Write a complete project for a new plugin, with tests: install it, and what it brings can be used.

    Example: mmreg new-plugin depth --kind encoder
    """
    from mmreg.cli.app import COMMANDS  # which imports this module by name

    for path in new_plugin(name, kind, out, COMMANDS if kind == "command" else ()):
        print(path)
    if not package_name(name).startswith(package_name(PREFIX)):
        say(f"warning: plugins are found by the prefix {PREFIX} of their names; {PREFIX}{name} would be better")
    folder = out / name
    say(f"\nnext: pip install -e {to_type(folder)} && pytest {to_type(folder)} && mmreg check {name}")
