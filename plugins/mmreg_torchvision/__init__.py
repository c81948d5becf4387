"""Bundled plugin: torchvision's networks for pictures and clips, with their pretrained weights, as an encoder."""
