"""Sets of texts that are made from a seed, in a language that is made as well, for what learns from few texts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Rows = tuple[list[str], list[str]]
"""Texts and their labels."""
VOWELS, CONSONANTS = list("aeiou"), list("bcdfghklmnprstvz")
TYPE_ENDINGS = ["", "s", "er", "set", "kit", " pro", " mini", "box"]
GERMAN_ENDINGS = ["", "e", "en", "er", "chen", "ung", "lich"]


class Sizes(NamedTuple):
    """How many rows the parts have."""

    train: int
    validation: int
    test: int


PRODUCTS = Sizes(1500, 300, 1000)
SENTIMENT = Sizes(2200, 300, 1000)
TOPICS = Sizes(900, 150, 800)
COMPOUNDS = Sizes(1500, 300, 1000)


def products(sizes: Sizes = PRODUCTS, seed: int = 1) -> Mapping[str, Rows]:
    """Short names: a brand, a type with endings and slips, a code, an amount; 12 classes, 15 % of the labels random."""
    rng = np.random.default_rng(seed)
    stems = [[_word(rng, 2) for _ in range(14)] for _ in range(12)]
    brands = [_word(rng, 2).title() for _ in range(120)]
    others = [_word(rng, int(rng.integers(1, 4))) for _ in range(1500)]
    of_others, of_brands, of_stems = _zipf(1500), _zipf(120, 0.7), _zipf(14, 0.6)
    texts, labels = [], []
    for _ in range(sum(sizes)):
        kind = int(rng.integers(12))
        name = stems[kind][rng.choice(14, p=of_stems)] + TYPE_ENDINGS[rng.integers(8)]
        if rng.random() < 0.25 and len(name) > 3:
            at = rng.integers(len(name) - 1)
            name = name[:at] + name[at + 1] + name[at] + name[at + 2 :]
        brand = brands[(rng.choice(120, p=of_brands) + (kind * 7 if rng.random() < 0.3 else 0)) % 120]
        parts = [brand, *(others[rng.choice(1500, p=of_others)] for _ in range(rng.integers(0, 4))), name]
        if rng.random() < 0.5:
            parts.append(f"{rng.integers(1, 60)}{rng.choice(['ml', 'cm', 'g', 'pcs'])}")
        if rng.random() < 0.4:
            parts.insert(1, f"{chr(65 + rng.integers(26))}{rng.integers(100, 999)}")
        texts.append(" ".join(parts))
        labels.append(f"c{kind if rng.random() > 0.15 else rng.integers(12)}")
    return _cut(texts, labels, sizes)


def sentiment(sizes: Sizes = SENTIMENT, seed: int = 2) -> Mapping[str, Rows]:
    """6 to 25 words of which few tell, and "not" turns them; 3 classes, one is half; 20 % of the labels random."""
    rng = np.random.default_rng(seed)
    others, of_others = [_word(rng, int(rng.integers(1, 4))) for _ in range(4000)], _zipf(4000)
    good, bad = [_word(rng, 2) for _ in range(150)], [_word(rng, 2) for _ in range(150)]
    of_telling = _zipf(150, 0.8)
    texts, labels = [], []
    for _ in range(sum(sizes)):
        kind = int(rng.choice(3, p=[0.5, 0.25, 0.25]))
        words = [others[rng.choice(4000, p=of_others)] for _ in range(rng.integers(6, 26))]
        for _ in range(rng.integers(1, 4) if kind else rng.integers(0, 2)):
            positive = kind == 1 if kind else rng.random() < 0.5
            if rng.random() < 0.1 and kind:
                positive = not positive
            negated = rng.random() < 0.2
            word = (good if positive != negated else bad)[rng.choice(150, p=of_telling)]
            words.insert(int(rng.integers(len(words) + 1)), f"not {word}" if negated else word)
        texts.append(" ".join(words))
        labels.append(("neutral", "good", "bad")[kind if rng.random() > 0.2 else rng.integers(3)])
    return _cut(texts, labels, sizes)


def topics(sizes: Sizes = TOPICS, seed: int = 3) -> Mapping[str, Rows]:
    """40 to 160 words of a mixture of 20 topics, the main one tells which of 6 classes; 10 % of the labels random."""
    rng = np.random.default_rng(seed)
    vocabulary, frequencies = [_word(rng, int(rng.integers(1, 4))) for _ in range(6000)], _zipf(6000)
    of_topics = [rng.permutation(6000)[:400] for _ in range(20)]
    texts, labels = [], []
    for _ in range(sum(sizes)):
        mixture = rng.dirichlet(np.full(20, 0.15))
        words = [
            vocabulary[rng.choice(6000, p=frequencies)]
            if rng.random() < 0.75
            else vocabulary[of_topics[rng.choice(20, p=mixture)][int(400 * rng.random() ** 2)]]
            for _ in range(rng.integers(40, 161))
        ]
        texts.append(" ".join(words))
        labels.append(f"t{int(mixture.argmax()) % 6 if rng.random() > 0.1 else rng.integers(6)}")
    return _cut(texts, labels, sizes)


def compounds(sizes: Sizes = COMPOUNDS, seed: int = 4) -> Mapping[str, Rows]:
    """5 to 12 words put together and inflected as German ones are; 30 classes, 10 % of the labels random."""
    rng = np.random.default_rng(seed)
    stems = [_word(rng, int(rng.integers(1, 3))).translate(str.maketrans("ao", "äö")) for _ in range(900)]
    telling = [stems[15 * kind : 15 * kind + 15] for kind in range(30)]
    small, of_stems = ["und", "der", "die", "mit", "für", "nicht", "ein"], _zipf(900, 0.5)
    texts, labels = [], []
    for _ in range(sum(sizes)):
        kind = int(rng.integers(30))
        words = [str(rng.choice(small)) if rng.random() < 0.4 else _compound(rng, stems, of_stems) for _ in range(4)]
        words += [_compound(rng, stems, of_stems) for _ in range(rng.integers(0, 6))]
        for _ in range(rng.integers(1, 4)):
            stem = telling[kind][rng.integers(15)]
            word = (
                stem + _compound(rng, stems, of_stems) if rng.random() < 0.6 else stem + str(rng.choice(GERMAN_ENDINGS))
            )
            words.insert(int(rng.integers(len(words) + 1)), word.title())
        texts.append(" ".join(words))
        labels.append(f"k{kind if rng.random() > 0.1 else rng.integers(30)}")
    return _cut(texts, labels, sizes)


def _word(rng: Generator, syllables: int) -> str:
    word = "".join(rng.choice(CONSONANTS) + rng.choice(VOWELS) for _ in range(syllables))
    return word + (rng.choice(CONSONANTS) if rng.random() < 0.5 else "")


def _compound(rng: Generator, stems: list[str], frequencies: NDArray[np.float64]) -> str:
    parts = [stems[rng.choice(len(stems), p=frequencies)] for _ in range(rng.integers(1, 3))]
    return "s".join(parts) + str(rng.choice(GERMAN_ENDINGS))


def _zipf(number: int, power: float = 1.0) -> NDArray[np.float64]:
    shares: NDArray[np.float64] = 1 / np.arange(1, number + 1) ** power
    return shares / shares.sum()


def _cut(texts: list[str], labels: list[str], sizes: Sizes) -> Mapping[str, Rows]:
    ends = np.cumsum([0, *sizes])
    return {
        name: (texts[begin:end], labels[begin:end])
        for name, begin, end in zip(sizes._fields, ends[:-1], ends[1:], strict=True)
    }
