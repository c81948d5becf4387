"""Declares the command tune and a section of reports; imports nothing heavy."""

from mmreg import CommandSpec, SectionSpec, hookimpl

mmreg_api = 1


@hookimpl
def mmreg_commands() -> list[CommandSpec]:
    """The command `mmreg tune`."""
    summary = "Search for the values that a recipe leaves open, by many trainings (extra tune)."
    return [CommandSpec("tune", summary, "mmreg_tune.command:app")]


@hookimpl
def mmreg_sections() -> list[SectionSpec]:
    """The search that a run was a trial of, and a search by itself."""
    return [
        SectionSpec("search", "Search", "mmreg_tune.section:section"),
        SectionSpec("searched", "Search", "mmreg_tune.section:study", of="folder"),
    ]
