"""What is done with many trainings or many measurements: comparing variants, and robustness."""
