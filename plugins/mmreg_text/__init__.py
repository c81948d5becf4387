"""Bundled plugin: text and encoders for it."""
