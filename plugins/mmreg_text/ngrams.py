"""From a text to its n-grams of words and of characters, numbered by hashing and weighted by tf-idf."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, Literal
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from mmreg.errors import MmregError
from mmreg_text.tokenizers import splitter

Weighting = Literal["tfidf", "mean"]

BUCKETS = 1 << 22
"""What n-grams are hashed to; a few of ten thousand share one. Of each the fit counts the texts: 16 MB."""
SHORTEST = 3
"""Characters of the shortest n-grams of characters, unless the longest are shorter."""


class NgramTokenizer:
    """Cuts a text into words, runs of words, and runs of characters within a word, and weighs them.

    An n-gram is known by its hash alone (CRC-32, modulo `BUCKETS`), as in fastText (Joulin et al. 2016; characters:
    Bojanowski et al. 2017), so what has to be counted does not grow with the texts. Those that occur in the training
    texts are numbered from 2, the most frequent first. The rest is left out: it has nothing that could be learned. A
    word is surrounded by "<" and ">" before its characters are taken, so "<un" is a begin.

    The weights of words and their runs are divided by their length, as are those of characters', so that each half
    counts alike: `tfidf` is the number of times an n-gram occurs times ln((1 + N) / (1 + n)) + 1, where n of N
    training texts have it, divided by the Euclidean length; `mean` divides the number of times by their sum. Either
    half is then multiplied by sqrt(1/2) or 1/2; without n-grams of characters there is one half, which is the whole.

    Args:
        max_tokens: how many words a text keeps.
        word_ngrams: the longest run of words.
        char_ngrams: the longest run of characters; 0 for none.
        weighting: as above.

    Attributes:
        size: the greatest number, plus one.
        fitted: whether it knows any.
    """

    unknown = 1

    def __init__(self, max_tokens: int, word_ngrams: int, char_ngrams: int, weighting: Weighting) -> None:
        self.max_tokens = max_tokens
        self.word_ngrams = word_ngrams
        self.sizes = range(min(SHORTEST, char_ngrams), char_ngrams + 1) if char_ngrams else range(0)
        self.weighting = weighting
        self._split = splitter("basic_english")
        self._characters = lru_cache(maxsize=1 << 16)(self._of_word)
        self._set(np.zeros(0, np.int32), np.zeros(0, np.float32))
        self.fitted = False

    def _set(self, buckets: NDArray[np.int32], idf: NDArray[np.float32]) -> None:
        """Take over the n-grams in the order of their numbers, and what each is multiplied by."""
        self._buckets, self._idf = buckets, idf
        self._order = np.argsort(buckets).astype(np.int32)
        self._sorted = buckets[self._order]
        self.size = len(buckets) + 2
        self.fitted = True

    def fit(self, texts: Iterable[str], size: int, min_frequency: int) -> None:
        """Number the n-grams of some texts.

        Args:
            texts: the training texts.
            size: the greatest `size` to have.
            min_frequency: how many of the texts an n-gram must be in.
        """
        counts, number = np.zeros(BUCKETS, np.int32), 0
        for number, text in enumerate(texts, 1):  # noqa: B007 (it is how many there are)
            words, characters = self._hashes(text)
            counts[np.unique([*words, *characters]).astype(np.int64)] += 1
        buckets = np.flatnonzero(counts >= min_frequency)
        buckets = buckets[np.argsort(-counts[buckets], kind="stable")][: size - 2]
        idf = np.log((1 + number) / (1 + counts[buckets])) + 1 if self.weighting == "tfidf" else np.ones(len(buckets))
        self._set(buckets.astype(np.int32), idf.astype(np.float32))

    def __call__(self, text: str) -> dict[str, NDArray[Any]]:
        """The numbers of a text's n-grams, each once, (T,) int32, and their weights, (T,) float32.

        A text without any that is known is a single unknown one that weighs nothing.

        Raises:
            MmregError: it was not fitted.
        """
        if not self.fitted:
            raise MmregError("this text modality has no n-grams yet: call fit_values or load_state first")
        words, characters = (self._weighed(hashes) for hashes in self._hashes(text))
        share = 1.0 if not self.sizes else 0.5 if self.weighting == "mean" else np.sqrt(0.5)
        numbers = np.concatenate([words[0], characters[0]])
        weights = np.concatenate([words[1], characters[1]]) * share
        if not len(numbers):
            numbers, weights = np.array([self.unknown]), np.zeros(1)
        return {"tokens": numbers.astype(np.int32), "weights": weights.astype(np.float32)}

    def state(self) -> dict[str, Any]:
        """What the fit learned, little-endian in base64."""
        arrays = {"buckets": self._buckets.astype("<i4"), "idf": self._idf.astype("<f4")}
        return {name: base64.b64encode(array.tobytes()).decode() for name, array in arrays.items()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take over what `state` gave."""
        buckets, idf = (base64.b64decode(state[name]) for name in ("buckets", "idf"))
        self._set(np.frombuffer(buckets, "<i4").astype(np.int32), np.frombuffer(idf, "<f4").astype(np.float32))

    def _hashes(self, text: str) -> tuple[list[int], list[int]]:
        """The hashes of a text's words and their runs, and of its characters' runs."""
        words = self._split(text)[: self.max_tokens]
        runs = [
            crc32(" ".join(words[begin : begin + n]).encode()) % BUCKETS
            for n in range(1, self.word_ngrams + 1)
            for begin in range(len(words) - n + 1)
        ]
        return runs, [each for word in words for each in self._characters(word)]

    def _of_word(self, word: str) -> list[int]:
        marked = f"<{word}>"
        # CRC-32 begins with 1, so that a run of characters is another thing than a word that is spelled alike.
        return [
            crc32(marked[begin : begin + n].encode(), 1) % BUCKETS
            for n in self.sizes
            for begin in range(len(marked) - n + 1)
        ]

    def _weighed(self, hashes: list[int]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Those of some n-grams that have numbers, each once, and their weights."""
        found, counts = np.unique(np.array(hashes, np.int64), return_counts=True)
        places = np.minimum(np.searchsorted(self._sorted, found), max(len(self._sorted) - 1, 0))
        known = self._sorted[places] == found if len(self._sorted) else np.zeros(len(found), bool)
        numbers = self._order[places[known]].astype(np.int64) if known.any() else np.zeros(0, np.int64)
        weights = counts[known] * self._idf[numbers].astype(np.float64)
        length = weights.sum() if self.weighting == "mean" else np.sqrt((weights**2).sum())
        return numbers + 2, weights / max(length, np.finfo(np.float64).tiny)
