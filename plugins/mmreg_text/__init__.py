"""Bundled plugin: text and a recurrent encoder for it."""
