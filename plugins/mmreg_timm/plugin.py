"""Declares the encoder; imports nothing heavy."""

from mmreg import ComponentSpec, hookimpl

mmreg_api = 1


@hookimpl
def mmreg_components() -> list[ComponentSpec]:
    """The encoder `timm`."""
    return [
        ComponentSpec(
            "encoder",
            "timm",
            "mmreg_timm.encoder:TimmEncoder",
            "Any of timm's picture networks, pretrained.",
            install_hint="pip install 'mmreg[timm]'",
            requires=("timm",),
        ),
    ]
