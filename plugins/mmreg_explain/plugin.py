"""Declares the command that explains predictions; imports nothing heavy."""

from mmreg import CommandSpec, hookimpl

mmreg_api = 1


@hookimpl
def mmreg_commands() -> list[CommandSpec]:
    """The command `mmreg explain`."""
    summary = "Tell which modality decided each prediction, how much they work together, and what within one counts."
    return [CommandSpec("explain", summary, "mmreg_explain.command:app")]
