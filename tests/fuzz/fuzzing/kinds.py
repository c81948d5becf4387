"""All kinds of input."""

from __future__ import annotations

from fuzzing import media, recipes, runs, tables, words

KINDS = [*recipes.KINDS, *tables.KINDS, *media.KINDS, *words.KINDS, *runs.KINDS]
