"""Model-level operators: M = M1 (+) ... (+) Mn, one file per family."""
