"""From a text to token numbers: by words or characters (torchtext), or by subwords (Hugging Face tokenizers)."""

from __future__ import annotations

import json
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mmreg.files import irregular

PADDING, UNKNOWN = "<pad>", "<unk>"  # numbers 0 and 1 of every vocabulary made here

WordMethod = Literal["basic_english", "whitespace", "char"]
SubwordMethod = Literal["bpe", "wordpiece"]

MOST_TOKENS = 10_000_000
"""Of a vocabulary; far above those of any language, and each has a vector of its own."""

LARGEST_FILE = 1 << 28
"""Of a tokenizer, in bytes; those of the largest vocabularies have some 30 million."""

COUNTED = 1 << 14
"""Texts whose words are counted at a time."""

_PADDING_NAMES = (PADDING, "[PAD]", "<PAD>", "<|pad|>")


class WordTokenizer:
    """Splits a text into words or characters and numbers those of a vocabulary from 2; the rest is unknown, 1.

    Args:
        method: `basic_english` (torchtext: lower case, punctuation apart), `whitespace`, or `char`.
        max_tokens: how many tokens a text keeps.
        words: the vocabulary, in the order of its numbers.

    Attributes:
        split: from a text to its tokens.
        size: the number of tokens, padding and unknown included.
        unknown: the number of the unknown token.
    """

    def __init__(self, method: WordMethod, max_tokens: int, words: Iterable[str] = ()) -> None:
        self.split = splitter(method)
        self.max_tokens = max_tokens
        self.words = list(words)
        self.size = len(self.words) + 2
        self.unknown = 1
        # Without the special names: a text that spells "<pad>" holds an unknown word, not padding.
        self._numbers = {word: number for number, word in enumerate(self.words, 2)}

    @classmethod
    def fit(
        cls, method: WordMethod, max_tokens: int, texts: Iterable[str], size: int, min_frequency: int
    ) -> WordTokenizer:
        """A tokenizer with the most frequent words of the texts, equally frequent ones in alphabetical order.

        Args:
            method: as above.
            max_tokens: as above.
            texts: the training texts; what lies beyond `max_tokens` counts as well.
            size: the most tokens that the vocabulary may have, padding and unknown included.
            min_frequency: how often a word must occur.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torchtext 0.6 is older than the Python and the torch it runs on
            from torchtext.vocab import Vocab

        counts = _count_words(splitter(method), iter(texts))
        vocabulary = Vocab(counts, max_size=size - 2, min_freq=min_frequency, specials=[PADDING, UNKNOWN])
        return cls(method, max_tokens, vocabulary.itos[2:])

    def __call__(self, text: str) -> NDArray[np.int32]:
        """The numbers of a text's tokens, (T,); T is 0 for a text without any."""
        number = self._numbers.get
        return np.array([number(word, 1) for word in self.split(text)[: self.max_tokens]], np.int32)


def _count_words(split: Callable[[str], list[str]], texts: Iterator[str]) -> Counter[str]:
    """How often each word occurs; texts that are repeated are split once in a while."""
    counts: Counter[str] = Counter()
    while part := list(islice(texts, COUNTED)):
        repeated = Counter(part)
        if len(repeated) > len(part) // 2:
            counts.update(chain.from_iterable(map(split, part)))
            continue
        for text, times in repeated.items():
            for word in split(text):
                counts[word] += times
    return counts


class SubwordTokenizer:
    """A Hugging Face tokenizer whose numbers leave 0 to padding.

    If the tokenizer's own padding token has number 0, its numbers are used as they are; else each is raised by one.
    A text that spells the padding token's name holds an unknown token there. A tokenizer that knows no unknown token
    (a byte-level one) gets one more number for it, the last.

    Args:
        definition: the content of a `tokenizer.json`.
        max_tokens: how many tokens a text keeps, counting those that the tokenizer itself adds, such as "[CLS]".
        special_tokens: whether it adds those.

    Attributes:
        definition: as given.
        model: what kind it is: "bpe", "wordpiece", "wordlevel" or "unigram".
        size: the number of tokens, padding and unknown included.
        unknown: the number of the unknown token.
        shift: how much the tokenizer's own numbers are raised.
        own_size: how many numbers the tokenizer itself has.

    Raises:
        ValueError: the definition is none, or `max_tokens` leaves no room for a text's own tokens.
    """

    def __init__(self, definition: str, max_tokens: int, special_tokens: bool = True) -> None:
        from tokenizers import Tokenizer

        with refusals():
            self._tokenizer = Tokenizer.from_str(definition)
        self.definition = definition
        vocabulary = self._tokenizer.get_vocab(with_added_tokens=True)
        names = [(self._tokenizer.padding or {}).get("pad_token"), *_PADDING_NAMES]
        own_padding = next((vocabulary[name] for name in names if name in vocabulary), None)
        self.shift = 0 if own_padding == 0 else 1
        self.own_size = max(vocabulary.values(), default=-1) + 1
        self.size = self.own_size + self.shift
        self.model = type(self._tokenizer.model).__name__.lower()
        model = json.loads(definition)["model"]
        own_unknown = vocabulary.get(model.get("unk_token"), model.get("unk_id"))
        if own_unknown is None:
            self.unknown = self.size
            self.size += 1
        else:
            self.unknown = own_unknown + self.shift
        self._padding = None if own_padding is None else own_padding + self.shift
        if self.size > MOST_TOKENS:
            raise ValueError(
                f"it numbers {len(vocabulary):,} tokens up to {self.size - 1:,}; at most {MOST_TOKENS:,} are taken"
            )

        self._special_tokens = special_tokens
        added = self._tokenizer.num_special_tokens_to_add(is_pair=False) if special_tokens else 0
        if max_tokens <= added:
            raise ValueError(f"max_tokens is {max_tokens}, but it adds {added} tokens to every text: allow more")
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_tokens)
        with refusals():
            strange = [number for number in self._encode("") if number + self.shift >= self.size]
        if strange:
            raise ValueError(f"it adds a token of the number {strange[0]:,}, which its vocabulary does not have")

    @classmethod
    def fit(
        cls, method: SubwordMethod, max_tokens: int, texts: Iterable[str], size: int, min_frequency: int
    ) -> SubwordTokenizer:
        """A tokenizer trained on texts; the same texts, in any order, give the same tokenizer.

        `bpe` joins frequent neighbours (Sennrich et al. 2016), a word's begin marked as SentencePiece does;
        `wordpiece` trains alike and takes the longest known piece first, continuing ones marked by "##" (Devlin 2019).

        Args:
            method: as above.
            max_tokens: how many tokens a text keeps.
            texts: the training texts.
            size: the most tokens that the vocabulary may have, padding and unknown included.
            min_frequency: how often a character, or a pair that is to be joined, must occur.
        """
        from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

        normalizer: normalizers.Normalizer = normalizers.Sequence(
            [normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()]
        )
        cut: pre_tokenizers.PreTokenizer = pre_tokenizers.Whitespace()
        if method == "bpe":
            normalizer = normalizers.Sequence([normalizer, normalizers.Prepend("▁")])
            cut = pre_tokenizers.Sequence(
                [pre_tokenizers.Punctuation(), pre_tokenizers.Metaspace(prepend_scheme="never")]
            )
        words = Counter(word for text in texts for word, _ in cut.pre_tokenize_str(normalizer.normalize_str(text)))
        alphabet = _alphabet(words, (size - 2) // (1 if method == "bpe" else 2), min_frequency)
        # The trainers number the continuing characters ("##a") in the order of a hash table, which changes from run
        # to run and with it the joins: so we name them all beforehand. The alphabet is cut here for the same reason.
        continuing = [] if method == "bpe" else ["##" + character for character in alphabet]
        settings: dict[str, Any] = {
            "vocab_size": size,
            "min_frequency": min_frequency,
            "special_tokens": [PADDING, UNKNOWN, *continuing],
            "initial_alphabet": alphabet,
            "limit_alphabet": len(alphabet),
            "show_progress": False,
        }
        if method == "bpe":
            learner = Tokenizer(models.BPE(unk_token=UNKNOWN))
            learner.train_from_iterator(words.elements(), trainers.BpeTrainer(**settings))
        else:
            learner = Tokenizer(models.WordPiece(unk_token=UNKNOWN))
            learner.train_from_iterator(words.elements(), trainers.WordPieceTrainer(**settings))
        # A tokenizer anew, in which no text can spell a special token.
        tokenizer = Tokenizer(learner.model)
        tokenizer.normalizer = normalizer
        tokenizer.pre_tokenizer = cut
        return cls(tokenizer.to_str(), max_tokens)

    def __call__(self, text: str) -> NDArray[np.int32]:
        """The numbers of a text's tokens, (T,); T is 0 for a text without any.

        Raises:
            ValueError: the tokenizer cannot cut this text, as with a model that has no token for what it does not know.
        """
        with refusals():
            numbers = np.array(self._encode(text), np.int32) + np.int32(self.shift)
        if self._padding is not None:
            numbers[numbers == self._padding] = self.unknown
        return numbers

    def _encode(self, text: str) -> list[int]:
        numbers: list[int] = self._tokenizer.encode(text, add_special_tokens=self._special_tokens).ids
        return numbers


def read_definition(path: Path) -> str:
    """The content of a tokenizer's file.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no such file, or far too large.
    """
    if what := irregular(path):
        raise ValueError(f"it is {what}")
    if path.stat().st_size > LARGEST_FILE:
        raise ValueError(f"it has more than {LARGEST_FILE:,} bytes")
    return path.read_text("utf-8")


Tokenizer = WordTokenizer | SubwordTokenizer


@contextmanager
def refusals() -> Iterator[None]:
    """Whatever the library raises as a `ValueError`: plain exceptions, and panics, which are not even those."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        raise ValueError(str(error)) from error


def splitter(method: WordMethod) -> Callable[[str], list[str]]:
    """What cuts a text into tokens; see `WordTokenizer`."""
    if method == "char":
        return list
    if method == "whitespace":
        return str.split
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torchtext.data.utils import get_tokenizer

    split: Callable[[str], list[str]] = get_tokenizer("basic_english")
    return split


def _alphabet(words: Counter[str], size: int, min_frequency: int) -> list[str]:
    """The most frequent characters, equally frequent ones in order."""
    counts: Counter[str] = Counter()
    for word, count in words.items():
        for character in word:
            counts[character] += count
    frequent = [character for character, count in counts.items() if count >= min_frequency]
    return sorted(frequent, key=lambda character: (-counts[character], character))[:size]
