"""Declares the image components; imports nothing heavy."""

from mmreg.components import ComponentSpec
from mmreg.hookspecs import hookimpl

mmreg_api = 1


@hookimpl
def mmreg_components() -> list[ComponentSpec]:
    """The image modality and its convolutional encoder."""
    return [
        ComponentSpec("modality", "image", "mmreg_image.modality:Image", "Pictures from files, bytes or arrays."),
        ComponentSpec("encoder", "image_cnn", "mmreg_image.cnn:ImageCNN", "Convolutional network for images."),
    ]
