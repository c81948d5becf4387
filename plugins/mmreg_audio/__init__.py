"""Bundled plugin: audio and a convolutional encoder for spectrograms."""
