"""Declares what the plugin brings; every mmreg command imports this module, so it imports nothing heavy."""

from mmreg import ComponentSpec, hookimpl

mmreg_api = 1


@hookimpl
def mmreg_components() -> list[ComponentSpec]:
    """The fusion `skeleton`."""
    return [
        ComponentSpec(
            "fusion",
            "skeleton",
            "mmreg_skeleton.fusion:SkeletonFusion",
            "A sum of projections with a learned weight a modality.",
            level="feature",
        ),
    ]
