"""Bundled plugin: images and a convolutional encoder for them."""
