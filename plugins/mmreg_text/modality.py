"""The text modality: a text becomes token numbers, or frozen word vectors."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, cast

import numpy as np
import torch
from annotated_types import Ge, Le, Lt
from numpy.typing import NDArray

from mmreg import SEQUENCE, TOKENS, Asset, Modality, Signal, Spec
from mmreg.errors import MmregError, OptionError, ValueLoadError
from mmreg.messages import plural
from mmreg_text.ngrams import NgramTokenizer, Weighting
from mmreg_text.tokenizers import (
    MOST_TOKENS,
    SubwordMethod,
    SubwordTokenizer,
    Tokenizer,
    WordMethod,
    WordTokenizer,
    read_definition,
    refusals,
)
from mmreg_text.vectors import read_vectors, vector_size

WEIGHTS = Spec(TOKENS, (None,))
"""What each token counts."""
SIF = 0.001
"""The a of a / (a + p), within the range that Arora et al. (2017) recommend."""


NAME_WORDS, COMING_AGAIN = 3, 5
"""Texts of so many words at most, each of which occurs so many times on average, are names, such as "New York"."""


class Text(Modality):
    """Text as token numbers (T,); with `vectors`, as a sequence of frozen word vectors (T, C); or as weighted n-grams.

    Number 0 is padding, 1 is the unknown token (a `tokenizer_file` may have it elsewhere). The vocabulary, or the
    subword tokenizer, is fitted on the training texts alone. A text without any token, such as one of spaces only,
    is a single unknown token. Numbers and truth values are read as they are written.

    Args:
        tokenizer: how a text is cut: `basic_english` (lower case, punctuation apart), `whitespace`, `char`, or into
            subwords by `bpe` or `wordpiece`, trained on the training texts. `ngrams` gives the runs of words (of
            basic_english) and of characters that a text has, each once and with a weight, for encoders that take
            bags, such as text_bag. Without it: basic_english, or whatever the `tokenizer_file` holds.
        tokenizer_file: a Hugging Face `tokenizer.json` to use instead of training one; its path is relative to the
            recipe. If its padding token is not number 0, its numbers are raised by one.
        special_tokens: whether the `tokenizer_file` adds tokens of its own to every text, such as "[CLS]".
        lower: whether to turn texts into lower case first (basic_english does so in any case).
        max_tokens: how many tokens a text keeps, or words before their n-grams are taken; the rest is cut off.
        vocabulary_size: the most tokens that a fitted vocabulary has, padding and unknown included.
        min_frequency: how often a token must occur in the training texts to get a number of its own; for n-grams, in
            how many of them.
        vectors: a text file of word vectors in GloVe's or fastText's format (".gz" too); its path is relative to the
            recipe. The run keeps the vectors it uses. Words without one get the mean of the others.
        vector_words: with `vectors`: how many of the file's most frequent words are taken besides those of the
            training texts, so that new texts find theirs.
        token_dropout: the share of tokens that training replaces by the unknown token, at random; it also teaches
            the model what to make of words it does not know. Of n-grams it is the share whose weights become zero.
        word_ngrams: with `ngrams`: the longest run of words.
        char_ngrams: with `ngrams`: the longest run of characters within a word, from 3 on; 0 for none.
        weighting: what a token counts, for encoders that take bags. Of `ngrams`: `tfidf` (which they have without it)
            or `mean`. With a `tokenizer_file`: `sif`, which is a / (a + p), where p is a token's share of those of the
            training texts and a is 0.001 (Arora et al. 2017).

    Raises:
        OptionError: options that contradict each other; from `fit_values` or `spec`: a file that cannot be read.
    """

    transform_options: ClassVar[frozenset[str]] = frozenset({"token_dropout"})
    unaugmented: ClassVar[Mapping[str, Any] | None] = {"token_dropout": 0.0}
    default_encoder = "text_rnn"

    def __init__(
        self,
        *,
        tokenizer: Literal["basic_english", "whitespace", "char", "bpe", "wordpiece", "ngrams"] | None = None,
        tokenizer_file: Asset | None = None,
        special_tokens: bool = True,
        lower: bool = False,
        max_tokens: Annotated[int, Ge(1), Le(1_000_000)] = 256,
        vocabulary_size: Annotated[int, Ge(4), Le(MOST_TOKENS)] = 30_000,
        min_frequency: Annotated[int, Ge(1)] = 1,
        vectors: Asset | None = None,
        vector_words: Annotated[int, Ge(0), Le(MOST_TOKENS)] = 10_000,
        token_dropout: Annotated[float, Ge(0), Lt(1)] = 0.1,
        word_ngrams: Annotated[int, Ge(1), Le(10)] = 2,
        char_ngrams: Annotated[int, Ge(0), Le(20)] = 5,
        weighting: Weighting | Literal["sif"] | None = None,
    ) -> None:
        if tokenizer_file is not None and tokenizer in ("basic_english", "whitespace", "char", "ngrams"):
            raise OptionError(
                f"tokenizer_file brings a tokenizer of its own, but tokenizer is {tokenizer!r}: leave out one of them"
            )
        self.method = tokenizer or ("basic_english" if tokenizer_file is None else None)
        if vectors is not None and self.method not in ("basic_english", "whitespace", "char"):
            raise OptionError(
                "vectors belong to words, which this tokenizer does not give: set tokenizer to basic_english, "
                "whitespace or char, or leave out vectors"
            )
        self.tokenizer_file = tokenizer_file
        self.special_tokens = special_tokens
        self.lower = lower
        self.max_tokens = max_tokens
        self.vocabulary_size = vocabulary_size
        self.min_frequency = min_frequency
        self.vectors = vectors
        self.vector_words = vector_words
        self.token_dropout = token_dropout
        self.weighting = weighting
        self.ngrams: NgramTokenizer | None = None
        if tokenizer == "ngrams" and weighting != "sif":
            self.ngrams = NgramTokenizer(max_tokens, word_ngrams, char_ngrams, weighting or "tfidf")
        elif weighting is not None and (weighting != "sif" or tokenizer_file is None):
            fits = "a tokenizer_file" if weighting == "sif" else "the tokenizer ngrams"
            raise OptionError(f"weighting: {weighting} belongs to {fits}; leave it out, or set that")
        self._tokenizer: Tokenizer | None = None
        self._table: torch.Tensor | None = None
        self._token_weights: torch.Tensor | None = None

    @classmethod
    def suggest(cls, values: Sequence[Any]) -> Mapping[str, tuple[Any, str]] | None:
        """No options, if the values are texts of more than one word.

        Single words are rather names of something, and so are a few words that come again and again.
        """
        texts = [value for value in values if isinstance(value, str)]
        words = [len(text.split()) for text in texts]
        if not values or len(words) < 0.8 * len(values) or sum(n > 1 for n in words) < 0.3 * len(words):
            return None
        if max(words) <= NAME_WORDS and len(set(texts)) * COMING_AGAIN <= len(texts):
            return None
        longest = int(np.percentile(words, 99))
        # Punctuation makes more tokens than there are words.
        return {} if longest <= 128 else {"max_tokens": (2 * longest, f"texts of up to {longest} words")}

    def fit_values(self, values: Iterator[Any]) -> None:
        """Learn the vocabulary or train the subword tokenizer; values that are no text are left to `load`."""
        if self.tokenizer_file is not None:
            self._tokenizer = self._from_file()
            if self.weighting == "sif":
                self._count(self._tokenizer, values)
            return
        if self.ngrams is not None:
            self.ngrams.fit(self._texts(values), self.vocabulary_size, self.min_frequency)
            return
        method = cast(WordMethod | SubwordMethod, self.method)
        settings = (self.max_tokens, self._texts(values), self.vocabulary_size, self.min_frequency)
        if method == "bpe" or method == "wordpiece":
            try:
                with refusals():
                    self._tokenizer = SubwordTokenizer.fit(method, *settings)
            except ValueError as error:
                raise OptionError(f"tokenizer: {method} cannot be trained on these texts: {error}") from error
            return
        words = WordTokenizer.fit(method, *settings)
        if self.vectors is not None:
            kept, table = read_vectors(
                Path(self.vectors), words.words, self.vector_words, lambda word: words.split(word) == [word]
            )
            words = WordTokenizer(method, self.max_tokens, kept)
            self._set_vectors(table)
        self._tokenizer = words

    def load(self, value: Any) -> NDArray[Any] | dict[str, NDArray[Any]]:
        """The numbers of the text's tokens, (T,) int32, with 1 <= T <= max_tokens; of n-grams with their weights.

        Raises:
            ValueLoadError: the value is no text, or bytes that are not UTF-8.
        """
        text = self._text(value)
        if self.ngrams is not None:
            return self.ngrams(text)
        tokenizer = self._fitted()
        try:
            numbers = tokenizer(text)
        except ValueError as error:
            raise ValueLoadError(f"text that the tokenizer cannot cut: {error}") from error
        return numbers if len(numbers) else np.array([tokenizer.unknown], np.int32)

    def notes(self, lengths: NDArray[np.int64]) -> list[str]:
        """How many texts have as many tokens as `max_tokens` allows, and so may have been cut."""
        if self.ngrams is not None:
            return []  # these are numbers of n-grams, not of words
        full = int((lengths >= self.max_tokens).sum())
        reach = f"{full:,} of {plural(len(lengths), 'text')} {'reaches' if full == 1 else 'reach'}"
        return [f"{reach} max_tokens: {self.max_tokens}, where longer ones are cut"] if full else []

    def transform(
        self, signal: Signal[Any], *, training: bool, generator: torch.Generator | None = None
    ) -> Signal[Any]:
        """Token numbers (B, T) int64, word vectors (B, T, C) float32, or both numbers and weights; padding is 0."""
        if self.ngrams is not None:
            numbers, weights = signal.values["tokens"].long(), signal.values["weights"]
            if training and self.token_dropout > 0:
                draws = torch.rand(weights.shape, generator=generator, device=weights.device)
                weights = weights.masked_fill(draws < self.token_dropout, 0.0)
            return signal.replace({"tokens": numbers, "weights": weights})
        numbers = signal.values.long()
        if training and self.token_dropout > 0:
            draws = torch.rand(numbers.shape, generator=generator, device=numbers.device)
            dropped = (draws < self.token_dropout) & (numbers != 0)
            numbers = numbers.masked_fill(dropped, self._fitted().unknown)
        if self._token_weights is not None:
            self._token_weights = self._token_weights.to(numbers.device)
            return signal.replace({"tokens": numbers, "weights": self._token_weights[numbers]})
        if self._table is None:
            return signal.replace(numbers)
        self._table = self._table.to(numbers.device)
        return signal.replace(self._table[numbers])

    @property
    def stored(self) -> Spec | Mapping[str, Spec]:
        """Token numbers, (T,) int32; of n-grams also their weights, (T,) float32."""
        tokens = self._tokens("int32")
        return tokens if self.ngrams is None else {"tokens": tokens, "weights": WEIGHTS}

    @property
    def spec(self) -> Spec | Mapping[str, Spec]:
        """As `stored`, with numbers in int64, or word vectors (T, C); before the fit, with the greatest size."""
        if self.vectors is None:
            tokens = self._tokens("int64")
            return tokens if self.weighting is None and self.ngrams is None else {"tokens": tokens, "weights": WEIGHTS}
        size = vector_size(Path(self.vectors)) if self._table is None else self._table.shape[1]
        return Spec(SEQUENCE, (None, size))

    def state(self) -> dict[str, Any]:
        """The vocabulary or the tokenizer, and the vectors in use (float32, little-endian, base64)."""
        state: dict[str, Any] = self.load_state_key()
        if self._table is not None:
            rows = self._table[2:].cpu().numpy().astype("<f4")
            state["vectors"] = {"size": rows.shape[1], "data": base64.b64encode(rows.tobytes()).decode()}
        if self._token_weights is not None:
            weights = self._token_weights.cpu().numpy().astype("<f4")
            state["token_weights"] = base64.b64encode(weights.tobytes()).decode()
        return state

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take over what `state` gave; no file is read."""
        if self.ngrams is not None:
            self.ngrams.load_state(state["ngrams"])
            return
        if "tokenizer" in state:
            self._tokenizer = SubwordTokenizer(state["tokenizer"], self.max_tokens, self.special_tokens)
        else:
            self._tokenizer = WordTokenizer(cast(WordMethod, self.method), self.max_tokens, state["words"])
        if "token_weights" in state:
            weights = np.frombuffer(base64.b64decode(state["token_weights"]), "<f4")
            self._token_weights = torch.from_numpy(weights.astype(np.float32))
        if "vectors" in state:
            rows = np.frombuffer(base64.b64decode(state["vectors"]["data"]), "<f4")
            self._set_vectors(rows.reshape(-1, state["vectors"]["size"]).astype(np.float32))

    def load_state_key(self) -> dict[str, Any]:
        """The vocabulary or the tokenizer."""
        if self.ngrams is not None:
            return {"ngrams": self.ngrams.state()}
        tokenizer = self._fitted()
        if isinstance(tokenizer, SubwordTokenizer):
            return {"tokenizer": tokenizer.definition}
        return {"words": tokenizer.words}

    def _set_vectors(self, rows: NDArray[np.float32]) -> None:
        table = np.concatenate([np.zeros_like(rows[:1]), rows.mean(0, keepdims=True), rows])  # padding, unknown, words
        self._table = torch.from_numpy(table)

    def _count(self, tokenizer: Tokenizer, values: Iterator[Any]) -> None:
        counts = np.zeros(tokenizer.size, np.int64)
        for text in self._texts(values):
            try:
                np.add.at(counts, tokenizer(text), 1)
            except ValueError:  # of which `load` tells
                continue
        shares = counts / max(counts.sum(), 1)
        self._token_weights = torch.from_numpy((SIF / (SIF + shares)).astype(np.float32))

    def _fitted(self) -> Tokenizer:
        if self._tokenizer is None:
            raise MmregError("this text modality has no vocabulary yet: call fit_values or load_state first")
        return self._tokenizer

    def _tokens(self, numbers: str) -> Spec:
        return Spec(TOKENS, (None,), numbers, self._size())

    def _size(self) -> int:
        if self.ngrams is not None:
            return self.ngrams.size if self.ngrams.fitted else self.vocabulary_size
        if self._tokenizer is None:
            return self.vocabulary_size if self.tokenizer_file is None else self._from_file().size
        return self._tokenizer.size

    def _from_file(self) -> SubwordTokenizer:
        assert self.tokenizer_file is not None
        path = Path(self.tokenizer_file)
        try:
            tokenizer = SubwordTokenizer(read_definition(path), self.max_tokens, self.special_tokens)
        except (OSError, ValueError) as error:
            raise OptionError(
                f"tokenizer_file: {path} cannot be used: {error}. Give the path of a Hugging Face tokenizer.json, "
                "relative to the recipe"
            ) from error
        if self.method is not None and self.method != tokenizer.model:
            raise OptionError(
                f"tokenizer is {self.method!r}, but the tokenizer_file {path} holds a {tokenizer.model!r}: "
                "leave out tokenizer"
            )
        return tokenizer

    def _text(self, value: Any) -> str:
        if isinstance(value, bytes):
            try:
                value = value.decode()
            except UnicodeDecodeError as error:
                raise ValueLoadError(f"bytes that are not UTF-8 text: {error}") from error
        elif isinstance(value, (bool, int, float, np.bool_, np.number)):
            value = str(value)
        if not isinstance(value, str):
            raise ValueLoadError(f"text expected, found {type(value).__name__}")
        if not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError as error:
                raise ValueLoadError(f"text with half a surrogate pair, which is no Unicode text: {error}") from error
        return value.lower() if self.lower else value

    def _texts(self, values: Iterator[Any]) -> Iterator[str]:
        for value in values:
            try:
                yield self._text(value)
            except ValueLoadError:
                continue
