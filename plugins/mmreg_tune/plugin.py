"""Declares the command tune; imports nothing heavy."""

from mmreg import CommandSpec, hookimpl

mmreg_api = 1


@hookimpl
def mmreg_commands() -> list[CommandSpec]:
    """The command `mmreg tune`."""
    summary = "Search for the values that a recipe leaves open, by many trainings (needs mmreg[tune])."
    return [CommandSpec("tune", summary, "mmreg_tune.command:app")]
