"""A report for people in every run's folder."""
