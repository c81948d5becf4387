"""What tests on Ray clusters share."""

STORE = 80 * 2**20
"""Bytes of memory for objects, which is Ray's least."""
