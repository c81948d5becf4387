"""Declares the demo command; imports nothing heavy."""

from mmreg import CommandSpec, hookimpl

mmreg_api = 1


@hookimpl
def mmreg_commands() -> list[CommandSpec]:
    """The command `mmreg demo`."""
    summary = "Train on digits that are seen, heard and described, each modality alone and fused (needs no network)."
    return [CommandSpec("demo", summary, "mmreg_demo.command:app")]
