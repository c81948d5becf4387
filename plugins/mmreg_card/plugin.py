"""Declares the card command; imports nothing heavy."""

from mmreg import CommandSpec, hookimpl

mmreg_api = 1


@hookimpl
def mmreg_commands() -> list[CommandSpec]:
    """The command `mmreg card`."""
    summary = "Write a run's model card: a README.md that the Hugging Face hub understands."
    return [CommandSpec("card", summary, "mmreg_card.command:app")]
