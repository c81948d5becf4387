"""Bundled plugin: how modalities that are fused by their features are trained, so that each of them learns."""
