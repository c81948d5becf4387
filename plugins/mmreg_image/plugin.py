"""Declares the image components; imports nothing heavy."""

from mmreg import ComponentSpec, hookimpl

mmreg_api = 1


@hookimpl
def mmreg_components() -> list[ComponentSpec]:
    """The image modality and its convolutional encoder."""
    return [
        ComponentSpec("modality", "image", "mmreg_image.modality:Image", "Pictures from files, bytes or arrays."),
        ComponentSpec("encoder", "image_cnn", "mmreg_image.cnn:ImageCNN", "Convolutional network for images."),
    ]
