"""Counts of rows by two labels each, as plain data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Matrix:
    """Counts of rows by what is true and what was predicted.

    Attributes:
        title: what it shows.
        labels: of rows and columns.
        counts: for each true label, how many rows got each label.
        target: which one of several.
    """

    title: str
    labels: Sequence[str]
    counts: Sequence[Sequence[int]]
    target: str = ""
