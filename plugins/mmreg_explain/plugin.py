"""Declares the command that explains predictions, and a section of reports; imports nothing heavy."""

from mmreg import CommandSpec, SectionSpec, hookimpl

mmreg_api = 1


@hookimpl
def mmreg_commands() -> list[CommandSpec]:
    """The command `mmreg explain`."""
    summary = "Tell which modality decided each prediction, how much they work together, and what within one counts."
    return [CommandSpec("explain", summary, "mmreg_explain.command:app")]


@hookimpl
def mmreg_sections() -> list[SectionSpec]:
    """Each modality's share."""
    return [SectionSpec("shares", "Which modality decided", "mmreg_explain.section:section")]
