"""Encoders, fusion and heads as one module: built from a recipe, run over rows, on a device."""
