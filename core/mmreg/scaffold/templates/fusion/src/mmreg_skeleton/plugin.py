"""Declares what the plugin brings; every mmreg command imports this module, so it imports nothing heavy."""

from mmreg import ComponentSpec, hookimpl

mmreg_api = 1


@hookimpl
def mmreg_components() -> list[ComponentSpec]:
    """The KIND `skeleton`."""
    return [
        ComponentSpec(
            "KIND",
            "skeleton",
            "mmreg_skeleton.KIND:SkeletonClass",
            "SUMMARY",
            level="feature",
        ),
    ]
