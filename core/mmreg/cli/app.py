"""The commands put together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from mmreg.cli import plugin_commands
from mmreg.completion import complete_plugins
from mmreg.importing import import_target

COMMANDS = {
    "list": "mmreg.cli.list:list_components",
    "info": "mmreg.cli.info:info",
    "plugins": "mmreg.cli.plugins:plugins",
    "init": "mmreg.cli.init:init",
    "validate": "mmreg.cli.validate:validate",
    "prepare": "mmreg.cli.prepare:prepare",
    "train": "mmreg.cli.train:train",
    "finish": "mmreg.cli.finish:finish",
    "refit": "mmreg.cli.refit:refit",
    "runs": "mmreg.cli.runs:runs",
    "evaluate": "mmreg.cli.evaluate:evaluate",
    "predict": "mmreg.cli.predict:predict",
    "fuse": "mmreg.cli.fuse:fuse",
    "compare": "mmreg.cli.compare:compare",
    "robustness": "mmreg.cli.robustness:robustness",
    "schema": "mmreg.cli.schema:schema",
    "check": "mmreg.cli.check:check",
    "cache": "mmreg.cli.cache:cache",
    "doctor": "mmreg.cli.doctor:doctor",
    "new-plugin": "mmreg.cli.new_plugin:new_plugin_command",
}
"""Where each command's function is, or its group of commands."""


def build_app(arguments: Sequence[str] = ()) -> typer.Typer:
    """The command line.

    Args:
        arguments: what it will be called with: if they name a command, only that one is imported.
    """
    app = typer.Typer(
        name="mmreg",
        help="Assemble image, text, audio and other encoders into multimodal models, and train them.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_globals)
    called = _called(arguments)
    for name, target in COMMANDS.items():
        if called in (None, name):
            command = import_target(target)
            app.add_typer(command, name=name) if isinstance(command, typer.Typer) else app.command(name)(command)
    plugin_commands.mount(app)
    return app


def _called(arguments: Sequence[str]) -> str | None:
    """The command that the arguments name; None if they name none of mmreg's own, or ask for something else first."""
    rest = iter(arguments)
    for argument in rest:
        if argument == "--no-plugin":
            next(rest, None)
        elif not argument.startswith("--no-plugin="):
            return argument if argument in COMMANDS else None
    return None


def _print_version(value: bool) -> None:
    if value:
        from importlib.metadata import version

        typer.echo(f"mmreg {version('mmreg')}")
        raise typer.Exit


def _globals(
    no_plugin: Annotated[
        list[str] | None,
        typer.Option(
            "--no-plugin",
            metavar="NAME",
            help="Leave out a plugin, by its own or its distribution's name.",
            autocompletion=complete_plugins,
        ),
    ] = None,
    version_: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    # Both options take effect while the command line is parsed; see `plugin_commands` for the plugins to leave out.
    del no_plugin, version_
