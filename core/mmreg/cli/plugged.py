"""The commands that plugins bring: mounted by name, imported when they are called."""

from __future__ import annotations

import importlib
import logging

import typer

from mmreg import registry
from mmreg.components import CommandSpec
from mmreg.errors import PluginError
from mmreg.plugins import call_hook

logger = logging.getLogger("mmreg")


def mount(app: typer.Typer) -> None:
    """Add every plugin's commands to the command line; one whose name is taken is reported and left out."""
    taken = {command.name for command in app.registered_commands}
    for plugin, commands in call_hook(registry.all_plugins(), "mmreg_commands"):
        for command in commands:
            if not isinstance(command, CommandSpec):
                logger.warning("mmreg: plugin %s: mmreg_commands must return CommandSpec, found %r", plugin, command)
            elif command.name in taken:
                logger.warning("mmreg: plugin %s: there is a command %r already", plugin, command.name)
            else:
                taken.add(command.name)
                _add(app, command)


def _add(app: typer.Typer, command: CommandSpec) -> None:
    settings = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}

    @app.command(command.name, help=command.help, context_settings=settings)
    def call(context: typer.Context) -> None:
        module, _, attribute = command.target.partition(":")
        try:
            inner = getattr(importlib.import_module(module), attribute)
        except Exception as error:  # a plugin may raise anything
            raise PluginError(f"the command {command.name!r} cannot be imported: {error}") from error
        typer.main.get_command(inner)(args=context.args, prog_name=f"mmreg {command.name}")
