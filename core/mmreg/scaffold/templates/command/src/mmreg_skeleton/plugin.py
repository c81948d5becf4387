"""Declares what the plugin brings; every mmreg command imports this module, so it imports nothing heavy."""

from mmreg import CommandSpec, hookimpl

mmreg_api = 1


@hookimpl
def mmreg_commands() -> list[CommandSpec]:
    """The command `mmreg skeleton-name`."""
    return [CommandSpec("skeleton-name", "SUMMARY", "mmreg_skeleton.command:app")]
