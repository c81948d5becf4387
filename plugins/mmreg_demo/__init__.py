"""`mmreg demo`: a multimodal data set made on the spot, and what fusion gains on it."""
