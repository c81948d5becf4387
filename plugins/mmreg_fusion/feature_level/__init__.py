"""Feature-level operators: F = [f1, ..., fn], one file per family."""
