"""Motion-sensor recordings for mmreg."""
