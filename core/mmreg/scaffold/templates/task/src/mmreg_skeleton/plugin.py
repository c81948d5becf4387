"""Declares what the plugin brings; every mmreg command imports this module, so it imports nothing heavy."""

from mmreg import ComponentSpec, hookimpl

mmreg_api = 1


@hookimpl
def mmreg_components() -> list[ComponentSpec]:
    """The task `skeleton`."""
    return [
        ComponentSpec(
            "task",
            "skeleton",
            "mmreg_skeleton.task:SkeletonTask",
            "Numbers of very different sizes, on a logarithmic scale.",
        ),
    ]
