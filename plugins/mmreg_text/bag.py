"""The bag encoder: a weighted sum of the embeddings of a text's tokens or n-grams, and a linear layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

import torch
from annotated_types import Ge, Lt
from torch import Tensor, nn
from torch.nn import functional

from mmreg import TOKENS, Encoder, EncoderSuggestion, Features, Signal, Spec
from mmreg.errors import SpecError
from mmreg.layers import length_mask

FEW = 20_000
"""Training rows up to which `mmreg init` takes it for texts."""
LONG = 100
"""Words from which on average it takes it whatever the number of rows."""


class TextBag(Encoder):
    """An embedding of each n-gram of words and characters, their weighted sum, and a linear layer (Joulin et al. 2016).

    The order of words counts within an n-gram alone, so it is fast on texts of any length, and learns from few of them
    what logistic regression on tf-idf does. It needs the text modality's `tokenizer: ngrams`, which makes the n-grams
    and their weights.

    Args:
        spec: weighted tokens by the names `tokens` (T, integers below a vocabulary size) and `weights` (T, floats); or
            tokens alone, of which it takes the mean.
        features: D, the size of what it gives.
        embedding_size: the size of an n-gram's vector.
        dropout: the share of the sum's values that training drops before the linear layer.

    Raises:
        SpecError: from a spec that `accepts` refuses.
    """

    multiple_arrays: ClassVar[bool] = True

    def __init__(
        self,
        spec: Spec | Mapping[str, Spec],
        *,
        features: Annotated[int, Ge(1)] = 100,
        embedding_size: Annotated[int, Ge(1)] = 64,
        dropout: Annotated[float, Ge(0), Lt(1)] = 0.5,
    ) -> None:
        super().__init__()
        if reason := self.accepts(spec, {}):
            raise SpecError(f"text_bag does not take {spec}: {reason}")
        tokens = spec if isinstance(spec, Spec) else spec["tokens"]
        assert tokens.vocabulary_size is not None
        self.embedding = nn.Embedding(tokens.vocabulary_size, embedding_size, padding_idx=0)
        nn.init.zeros_(self.embedding.weight)  # what training has not shown says nothing, as in logistic regression
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(embedding_size, features)
        self.out_features = features

    @classmethod
    def accepts(cls, spec: Spec | Mapping[str, Spec], options: Mapping[str, Any]) -> str | None:
        """It takes tokens with a vocabulary size, with weights or without."""
        if weighted_tokens(spec)[0] is not None:
            return None
        return f'it takes tokens "{TOKENS}" that are integers below a known vocabulary size, or them and their weights'

    @classmethod
    def modality_options(cls, options: Mapping[str, Any]) -> Mapping[str, Any]:
        """N-grams and their weights."""
        return {"tokenizer": "ngrams"}

    @classmethod
    def suggest(
        cls, modality: str, values: Sequence[Any], rows: int, options: Mapping[str, Any] | None = None
    ) -> EncoderSuggestion | None:
        """For few texts, and for texts so long that a recurrent network is slow on them."""
        words = [len(value.split()) for value in values if isinstance(value, str)]
        if modality != "text" or not words:
            return None
        if rows <= FEW:
            return EncoderSuggestion({}, f"n-grams, which {rows:,} training rows are enough for", rank=1)
        if sum(words) / len(words) >= LONG:
            return EncoderSuggestion({}, "n-grams, as the texts are long", rank=1)
        return None

    def forward(self, signal: Signal[Any]) -> Features:
        """Encode tokens (B, T), with weights (B, T) or without, to pooled (B, D)."""
        values = signal.values
        tokens: Tensor = values if isinstance(values, Tensor) else values["tokens"]
        mask = torch.ones_like(tokens, dtype=torch.bool)
        if signal.lengths is not None:
            mask = length_mask(signal.lengths, tokens.shape[1])
        dtype = self.embedding.weight.dtype
        weights = mask.to(dtype) / mask.sum(1, keepdim=True)
        if not isinstance(values, Tensor):
            weights = values["weights"].to(dtype).masked_fill(~mask, 0.0)
        total = functional.embedding_bag(
            tokens.masked_fill(~mask, 0), self.embedding.weight, mode="sum", per_sample_weights=weights, padding_idx=0
        )
        return Features(pooled=self.linear(self.dropout(total)))


def weighted_tokens(spec: Spec | Mapping[str, Spec]) -> tuple[Spec | None, Spec | None]:
    """The specs of tokens and of their weights, if these have any; twice None if it is something else."""
    arrays = {"tokens": spec} if isinstance(spec, Spec) else dict(spec)
    tokens, weights = arrays.get("tokens"), arrays.get("weights")
    if tokens is None or len(arrays) != (1 if weights is None else 2):
        return None, None
    numbered = tokens.axes == TOKENS and tokens.vocabulary_size is not None and tokens.dtype.startswith(("int", "uint"))
    weighted = weights is None or (weights.axes == TOKENS and "float" in weights.dtype)
    return (tokens, weights) if numbered and weighted else (None, None)
