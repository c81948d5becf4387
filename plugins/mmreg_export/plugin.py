"""Declares the export command; imports nothing heavy."""

from mmreg import CommandSpec, hookimpl

mmreg_api = 1


@hookimpl
def mmreg_commands() -> list[CommandSpec]:
    """The command `mmreg export`."""
    summary = "Write a run's whole model as one file for torch.export or ONNX, to use without mmreg."
    return [CommandSpec("export", summary, "mmreg_export.command:app")]
