"""What rooms below `mmreg.runs` read of a run's folder: what it says of its components, and its weights."""
