"""Bundled plugin: an encoder for sequences of images, spectrograms or vectors, by the encoder of a single one."""
