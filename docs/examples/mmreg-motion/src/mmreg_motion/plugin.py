"""Declares the components; imports nothing heavy."""

from mmreg import ComponentSpec, hookimpl

mmreg_api = 1


@hookimpl
def mmreg_components() -> list[ComponentSpec]:
    """A modality, an encoder and a model-level fusion."""
    return [
        ComponentSpec("modality", "motion", "mmreg_motion.modality:Motion", "Recordings of motion sensors."),
        ComponentSpec("encoder", "motion_tcn", "mmreg_motion.tcn:MotionTCN", "Temporal convolutional network."),
        ComponentSpec(
            "fusion",
            "geometric",
            "mmreg_motion.geometric:Geometric",
            "Geometric mean of the probabilities, with given weights.",
            level="model",
        ),
    ]
