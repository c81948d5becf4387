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
from mmreg.files import irregular
from mmreg.messages import plural
from mmreg_text.tokenizers import MOST_TOKENS, SubwordTokenizer, Tokenizer, WordMethod, WordTokenizer, refusals
from mmreg_text.vectors import read_vectors, vector_size

LARGEST_FILE = 1 << 28
"""Of a tokenizer, in bytes; those of the largest vocabularies have some 30 million."""


class Text(Modality):
    """Text as token numbers (T,), or, with `vectors`, as a sequence of frozen word vectors (T, C).

    Number 0 is padding, 1 is the unknown token (a `tokenizer_file` may have it elsewhere). The vocabulary, or the
    subword tokenizer, is fitted on the training texts alone. A text without any token, such as one of spaces only,
    is a single unknown token. Numbers and truth values are read as they are written.

    Args:
        tokenizer: how a text is cut: `basic_english` (lower case, punctuation apart), `whitespace`, `char`, or into
            subwords by `bpe` or `wordpiece`, trained on the training texts. Without it: basic_english, or whatever
            the `tokenizer_file` holds.
        tokenizer_file: a Hugging Face `tokenizer.json` to use instead of training one; its path is relative to the
            recipe. If its padding token is not number 0, its numbers are raised by one.
        lower: whether to turn texts into lower case first (basic_english does so in any case).
        max_tokens: how many tokens a text keeps; the rest is cut off.
        vocabulary_size: the most tokens that a fitted vocabulary has, padding and unknown included.
        min_frequency: how often a token must occur in the training texts to get a number of its own.
        vectors: a text file of word vectors in GloVe's or fastText's format (".gz" too); its path is relative to the
            recipe. The run keeps the vectors it uses. Words without one get the mean of the others.
        vector_words: with `vectors`: how many of the file's most frequent words are taken besides those of the
            training texts, so that new texts find theirs.
        token_dropout: the share of tokens that training replaces by the unknown token, at random; it also teaches
            the model what to make of words it does not know.

    Raises:
        OptionError: options that contradict each other; from `fit_values` or `spec`: a file that cannot be read.
    """

    transform_options: ClassVar[frozenset[str]] = frozenset({"token_dropout"})
    unaugmented: ClassVar[Mapping[str, Any] | None] = {"token_dropout": 0.0}
    default_encoder = "text_rnn"

    def __init__(
        self,
        *,
        tokenizer: Literal["basic_english", "whitespace", "char", "bpe", "wordpiece"] | None = None,
        tokenizer_file: Asset | None = None,
        lower: bool = False,
        max_tokens: Annotated[int, Ge(1), Le(1_000_000)] = 256,
        vocabulary_size: Annotated[int, Ge(4), Le(MOST_TOKENS)] = 30_000,
        min_frequency: Annotated[int, Ge(1)] = 1,
        vectors: Asset | None = None,
        vector_words: Annotated[int, Ge(0), Le(MOST_TOKENS)] = 10_000,
        token_dropout: Annotated[float, Ge(0), Lt(1)] = 0.1,
    ) -> None:
        if tokenizer_file is not None and tokenizer in ("basic_english", "whitespace", "char"):
            raise OptionError(
                f"tokenizer_file brings a tokenizer of its own, but tokenizer is {tokenizer!r}: leave out one of them"
            )
        self.method = tokenizer or ("basic_english" if tokenizer_file is None else None)
        if vectors is not None and self.method not in ("basic_english", "whitespace", "char"):
            raise OptionError(
                "vectors belong to words, but the tokenizer cuts subwords: set tokenizer to basic_english, whitespace "
                "or char, or leave out vectors"
            )
        self.tokenizer_file = tokenizer_file
        self.lower = lower
        self.max_tokens = max_tokens
        self.vocabulary_size = vocabulary_size
        self.min_frequency = min_frequency
        self.vectors = vectors
        self.vector_words = vector_words
        self.token_dropout = token_dropout
        self._tokenizer: Tokenizer | None = None
        self._table: torch.Tensor | None = None

    @classmethod
    def suggest(cls, values: Sequence[Any]) -> Mapping[str, tuple[Any, str]] | None:
        """No options, if the values are texts of more than one word; single words are rather names of something."""
        words = [len(value.split()) for value in values if isinstance(value, str)]
        if not values or len(words) < 0.8 * len(values) or sum(n > 1 for n in words) < 0.3 * len(words):
            return None
        longest = int(np.percentile(words, 99))
        # Punctuation makes more tokens than there are words.
        return {} if longest <= 128 else {"max_tokens": (2 * longest, f"texts of up to {longest} words")}

    def fit_values(self, values: Iterator[Any]) -> None:
        """Learn the vocabulary or train the subword tokenizer; values that are no text are left to `load`."""
        if self.tokenizer_file is not None:
            self._tokenizer = self._from_file()
            return
        method = self.method
        assert method is not None
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

    def load(self, value: Any) -> NDArray[Any]:
        """The numbers of the text's tokens, (T,) int32, with 1 <= T <= max_tokens.

        Raises:
            ValueLoadError: the value is no text, or bytes that are not UTF-8.
        """
        tokenizer = self._fitted()
        text = self._text(value)
        try:
            numbers = tokenizer(text)
        except ValueError as error:
            raise ValueLoadError(f"text that the tokenizer cannot cut: {error}") from error
        return numbers if len(numbers) else np.array([tokenizer.unknown], np.int32)

    def notes(self, lengths: NDArray[np.int64]) -> list[str]:
        """How many texts have as many tokens as `max_tokens` allows, and so may have been cut."""
        full = int((lengths >= self.max_tokens).sum())
        reach = f"{full:,} of {plural(len(lengths), 'text')} {'reaches' if full == 1 else 'reach'}"
        return [f"{reach} max_tokens: {self.max_tokens}, where longer ones are cut"] if full else []

    def transform(self, signal: Signal, *, training: bool, generator: torch.Generator | None = None) -> Signal:
        """Token numbers (B, T) int64, or word vectors (B, T, C) float32; padding is 0."""
        numbers = signal.values.long()
        if training and self.token_dropout > 0:
            draws = torch.rand(numbers.shape, generator=generator, device=numbers.device)
            dropped = (draws < self.token_dropout) & (numbers != 0)
            numbers = numbers.masked_fill(dropped, self._fitted().unknown)
        if self._table is None:
            return signal.replace(numbers)
        self._table = self._table.to(numbers.device)
        return signal.replace(self._table[numbers])

    @property
    def stored(self) -> Spec:
        """Token numbers, (T,) int32."""
        return Spec(TOKENS, (None,), "int32", self._size())

    @property
    def spec(self) -> Spec:
        """Token numbers, (T,) int64, or word vectors (T, C); before the fit, the vocabulary's greatest size."""
        if self.vectors is None:
            return Spec(TOKENS, (None,), "int64", self._size())
        size = vector_size(Path(self.vectors)) if self._table is None else self._table.shape[1]
        return Spec(SEQUENCE, (None, size))

    def state(self) -> dict[str, Any]:
        """The vocabulary or the tokenizer, and the vectors in use (float32, little-endian, base64)."""
        state: dict[str, Any] = self.load_state_key()
        if self._table is not None:
            rows = self._table[2:].cpu().numpy().astype("<f4")
            state["vectors"] = {"size": rows.shape[1], "data": base64.b64encode(rows.tobytes()).decode()}
        return state

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take over what `state` gave; no file is read."""
        if "tokenizer" in state:
            self._tokenizer = SubwordTokenizer(state["tokenizer"], self.max_tokens)
        else:
            self._tokenizer = WordTokenizer(cast(WordMethod, self.method), self.max_tokens, state["words"])
        if "vectors" in state:
            rows = np.frombuffer(base64.b64decode(state["vectors"]["data"]), "<f4")
            self._set_vectors(rows.reshape(-1, state["vectors"]["size"]).astype(np.float32))

    def load_state_key(self) -> dict[str, Any]:
        """The vocabulary or the tokenizer."""
        tokenizer = self._fitted()
        if isinstance(tokenizer, SubwordTokenizer):
            return {"tokenizer": tokenizer.definition}
        return {"words": tokenizer.words}

    def _set_vectors(self, rows: NDArray[np.float32]) -> None:
        table = np.concatenate([np.zeros_like(rows[:1]), rows.mean(0, keepdims=True), rows])  # padding, unknown, words
        self._table = torch.from_numpy(table)

    def _fitted(self) -> Tokenizer:
        if self._tokenizer is None:
            raise MmregError("this text modality has no vocabulary yet: call fit_values or load_state first")
        return self._tokenizer

    def _size(self) -> int:
        if self._tokenizer is None:
            return self.vocabulary_size if self.tokenizer_file is None else self._from_file().size
        return self._tokenizer.size

    def _from_file(self) -> SubwordTokenizer:
        assert self.tokenizer_file is not None
        path = Path(self.tokenizer_file)
        try:
            tokenizer = SubwordTokenizer(_definition(path), self.max_tokens)
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


def _definition(path: Path) -> str:
    """The content of a tokenizer's file."""
    if what := irregular(path):
        raise ValueError(f"it is {what}")
    if path.stat().st_size > LARGEST_FILE:
        raise ValueError(f"it has more than {LARGEST_FILE:,} bytes")
    return path.read_text("utf-8")
