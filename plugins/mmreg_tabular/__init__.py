"""Bundled plugin: columns of numbers, categories and dates together, and encoders of them."""
