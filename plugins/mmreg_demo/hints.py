"""English hints at a digit: sentences that are true of it, and mostly of other digits too."""

from __future__ import annotations

import numpy as np

Fact = tuple[frozenset[int], tuple[str, ...]]

FACTS: tuple[tuple[Fact, ...], ...] = (
    (
        (frozenset({0, 2, 4, 6, 8}), ("it is even", "you can halve it", "two divides it")),
        (frozenset({1, 3, 5, 7, 9}), ("it is odd", "you cannot halve it", "two does not divide it")),
    ),
    (
        (frozenset({0, 1, 2, 3, 4}), ("one hand can show it", "it is small", "it is below five")),
        (frozenset({5, 6, 7, 8, 9}), ("you need five fingers at least", "it is large", "it is not below five")),
    ),
    (
        (frozenset({0, 6, 8, 9}), ("it has a closed loop", "there is a hole in it", "a ring is part of it")),
        (frozenset({1, 4, 7}), ("straight strokes make it", "it has no curve", "it is all lines and corners")),
        (frozenset({2, 3, 5}), ("it curves and stays open", "its bow is open", "it is bent like a hook")),
    ),
    (
        (frozenset({0, 3, 6, 9}), ("three divides it", "you find it counting by threes", "threes add up to it")),
        (frozenset({1, 2, 4, 5, 7, 8}), ("three does not divide it", "counting by threes you miss it")),
    ),
)
"""What can be said of a digit: for each question its answers, each with the digits it is true of and its wordings."""

OPENINGS = (
    "",
    "I think",
    "I am told that",
    "they say",
    "look,",
    "well,",
    "remember that",
    "if I see it right,",
    "for sure",
    "as far as I know",
)


def hint(digit: int, generator: np.random.Generator) -> str:
    """A sentence of one, two or three facts about a digit from 0 to 9."""
    number = int(generator.choice(3, p=[0.25, 0.5, 0.25])) + 1
    parts = []
    for question in generator.permutation(len(FACTS))[:number].tolist():
        wordings = next(wordings for digits, wordings in FACTS[question] if digit in digits)
        parts.append(wordings[int(generator.integers(len(wordings)))])
    opening = OPENINGS[int(generator.integers(len(OPENINGS)))]
    sentence = f"{opening} {' and '.join(parts)}".strip()
    return f"{sentence[0].upper()}{sentence[1:]}."


def hints(digits: list[int], generator: np.random.Generator) -> list[str]:
    """A hint for each digit, no two of which are the same sentence."""
    told: set[str] = set()
    result = []
    for digit in digits:
        sentence = hint(digit, generator)
        while sentence in told:
            sentence = hint(digit, generator)
        told.add(sentence)
        result.append(sentence)
    return result
