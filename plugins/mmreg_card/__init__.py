"""Model cards of runs."""
