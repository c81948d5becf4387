"""Bundled plugin: the picture networks of timm, with their pretrained weights, as an encoder."""
