"""Large tables predicted and prepared on a Ray cluster, by Ray Data."""
