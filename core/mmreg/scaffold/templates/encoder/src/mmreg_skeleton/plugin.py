"""Declares what the plugin brings; every mmreg command imports this module, so it imports nothing heavy."""

from mmreg import ComponentSpec, hookimpl

mmreg_api = 1


@hookimpl
def mmreg_components() -> list[ComponentSpec]:
    """The encoder `skeleton`."""
    return [
        ComponentSpec(
            "encoder",
            "skeleton",
            "mmreg_skeleton.encoder:SkeletonEncoder",
            "A perceptron for every step of a sequence, and their mean.",
        ),
    ]
