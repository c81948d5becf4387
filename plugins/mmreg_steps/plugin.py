"""Declares the encoder of steps; imports nothing heavy."""

from mmreg import ComponentSpec, hookimpl

mmreg_api = 1


@hookimpl
def mmreg_components() -> list[ComponentSpec]:
    """The encoder of steps."""
    return [
        ComponentSpec(
            "encoder",
            "per_step",
            "mmreg_steps.per_step:PerStep",
            "Another encoder for each step of a sequence, such as a video's pictures.",
        )
    ]
