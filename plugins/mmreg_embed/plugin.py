"""Declares the commands on vectors and a section of reports; imports nothing heavy."""

from mmreg import CommandSpec, SectionSpec, hookimpl

mmreg_api = 1


@hookimpl
def mmreg_commands() -> list[CommandSpec]:
    """The commands `mmreg embed`, `mmreg neighbours` and `mmreg map`."""
    return [
        CommandSpec("embed", "Write the vectors that a run makes of rows.", "mmreg_embed.embed_command:app"),
        CommandSpec(
            "neighbours",
            "Find the rows whose vectors are nearest, also those of another modality.",
            "mmreg_embed.neighbours_command:app",
        ),
        CommandSpec("map", "Draw the vectors of rows in two dimensions.", "mmreg_embed.map_command:app"),
    ]


@hookimpl
def mmreg_sections() -> list[SectionSpec]:
    """The map of a run's rows."""
    return [SectionSpec("map", "Map of the rows", "mmreg_embed.section:section")]
