"""Bundled plugin: encoders of sequences, of tokens as well as of vectors."""
