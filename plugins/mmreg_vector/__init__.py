"""Bundled plugin: vectors of numbers, and sequences of them, from lists, arrays and .npy files."""
