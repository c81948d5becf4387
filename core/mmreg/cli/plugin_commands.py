"""The commands that plugins bring: looked for when help or an unknown command asks for them, imported when called."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from mmreg import registry
from mmreg.contract.components import CommandSpec
from mmreg.errors import PluginError
from mmreg.importing import import_target
from mmreg.messages import one_line
from mmreg.registry.plugins import Plugin, call_hook, leave_out, report


def mount(app: typer.Typer) -> None:
    """Add every plugin's commands to the command line."""
    app.info.cls = _Group


class _Group(TyperGroup):
    """mmreg's own commands, then the plugins'."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        # --help is answered while arguments are parsed, so what is to be left out has to be known before.
        options = self.make_parser(ctx).parse_args(list(args))[0]
        leave_out(options.get("no_plugin") or ())
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: Any) -> list[str]:
        return [*super().list_commands(ctx), *self._plugged]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """A command; of a plugin's, no more than its name and help."""
        own = super().get_command(ctx, cmd_name)
        if own is not None or cmd_name not in self._plugged:
            return own
        return TyperCommand(name=cmd_name, help=self._plugged[cmd_name][1].help)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that is called; a plugin's is imported here."""
        name = args[0]
        if super().get_command(ctx, name) is None and name in self._plugged:
            return name, _load(*self._plugged[name]), args[1:]
        if super().get_command(ctx, name) is None:  # so that those of plugins are among what is suggested
            self.commands.update({each: self.get_command(ctx, each) for each in self._plugged})
        return super().resolve_command(ctx, args)

    @cached_property
    def _plugged(self) -> dict[str, tuple[Plugin, CommandSpec]]:
        """The plugins' commands by name; one whose name is taken is reported and left out."""
        found: dict[str, tuple[Plugin, CommandSpec]] = {}
        for plugin, command in call_hook(registry.all_plugins(), "mmreg_commands", CommandSpec):
            if command.name in self.commands:
                report(plugin, f"brings a command {command.name!r}, which mmreg has itself")
            elif command.name in found:
                report(
                    plugin, f"brings a command {command.name!r}, as {found[command.name][0]} does, which comes first"
                )
            else:
                found[command.name] = plugin, command
        return found


def _load(plugin: Plugin, spec: CommandSpec) -> Any:
    """A plugin's command, ready to be called.

    Raises:
        PluginError: it cannot be imported, or is no Typer app.
    """
    what = f"the command {spec.name!r} of plugin {plugin}"
    try:
        app = import_target(spec.target)
    except ImportError as error:
        raise PluginError(f"{what} {error}") from error
    if not isinstance(app, typer.Typer):
        raise PluginError(f"{what} must be a typer.Typer, found {type(app).__name__} in {spec.target}")
    try:
        command = typer.main.get_command(app)
    except Exception as error:  # parameters that Typer cannot make an option of
        raise PluginError(f"{what} is broken: {one_line(error)}") from error
    command.params = [each for each in command.params if each.name not in ("install_completion", "show_completion")]
    return command
