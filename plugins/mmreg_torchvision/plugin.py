"""Declares the encoder; imports nothing heavy."""

from mmreg import ComponentSpec, hookimpl

mmreg_api = 1


@hookimpl
def mmreg_components() -> list[ComponentSpec]:
    """The encoder `torchvision`."""
    return [
        ComponentSpec(
            "encoder",
            "torchvision",
            "mmreg_torchvision.encoder:TorchvisionEncoder",
            "Any of torchvision's networks for pictures and clips, pretrained.",
        ),
    ]
