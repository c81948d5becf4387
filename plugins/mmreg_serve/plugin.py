"""Declares the serve command; imports nothing heavy."""

from mmreg import CommandSpec, hookimpl

mmreg_api = 1


@hookimpl
def mmreg_commands() -> list[CommandSpec]:
    """The command `mmreg serve`."""
    summary = "Answer requests over HTTP with a run's predictions, and show a page to try it."
    return [CommandSpec("serve", summary, "mmreg_serve.command:app")]
