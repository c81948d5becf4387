"""Killing trainings: `make faults`."""
