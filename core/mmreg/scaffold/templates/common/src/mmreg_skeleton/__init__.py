"""The KIND `skeleton` for mmreg."""
