"""The bag encoder: a weighted sum of vectors of a text's tokens or n-grams, which they share by hashing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

import torch
import torch.nn.functional as F
from annotated_types import Ge, Le, Lt
from torch import Tensor, nn

from mmreg import TOKENS, Encoder, EncoderSuggestion, Features, Signal, Spec
from mmreg.errors import SpecError
from mmreg.layers import length_mask
from mmreg_text.table import table_at_hand

FEW = 20_000
"""Training rows up to which `mmreg init` takes it for texts."""
LONG = 100
"""Words from which on average it takes it whatever the number of rows."""


_HASHES = (0x1B873593, 0x2C1B3C6D, 0x297A2D39, 0x5BD1E995)
"""What the hash functions begin with: one for each shared vector that an n-gram has a part of."""
SCALE = 4.0
"""What sums are multiplied by, so that 20 epochs of a thousand names are enough at the usual rate of 0.001: of names
of emoji 0.73 are right on validation rows then, and 0.64 without it; noisy texts are learned alike."""


class TextBag(Encoder):
    """A vector of each n-gram of words and characters, and their weighted sum (Joulin et al. 2016).

    The order of words counts within an n-gram alone, so it is fast on texts of any length, and learns from few of them
    what logistic regression on tf-idf does. It needs the text modality's `tokenizer: ngrams`, which makes the n-grams
    and their weights.

    An n-gram's vector is the sum of four of `buckets` shared ones, with signs, times two: which ones, and the
    signs, is a matter of hashing (Weinberger et al. 2009; hash embeddings, Svenstrup et al. 2017). With a vector of its
    own for each n-gram, an optimizer that divides by the size of gradients (Adam, AdamW) would give to what a single
    text has as much weight as to what many have. Dropped are a text's shares of the shared vectors, which does here
    what a penalty on squared weights does in logistic regression.

    Args:
        spec: weighted tokens by the names `tokens` (T, integers below a vocabulary size) and `weights` (T, floats); or
            tokens alone, of which it takes the mean.
        features: D, the size of what it gives.
        buckets: how many vectors are shared; more are for longer texts and for more training rows.
        dropout: the part of the shared vectors that a text has to do without in training.

    Raises:
        SpecError: from a spec that `accepts` refuses.
    """

    multiple_arrays: ClassVar[bool] = True
    version: ClassVar[int] = 2

    def __init__(
        self,
        spec: Spec | Mapping[str, Spec],
        *,
        features: Annotated[int, Ge(1)] = 100,
        buckets: Annotated[int, Ge(2), Le(1 << 24)] = 65_536,
        dropout: Annotated[float, Ge(0), Lt(1)] = 0.9,
    ) -> None:
        super().__init__()
        if reason := self.accepts(spec, {}):
            raise SpecError(f"text_bag does not take {spec}: {reason}")
        self.buckets = buckets
        self.dropout = nn.Dropout(dropout)
        reach = buckets**-0.5  # as nn.Linear begins
        self.vectors = nn.Parameter(torch.empty(buckets, features).uniform_(-reach, reach))
        self.bias = nn.Parameter(torch.empty(features).uniform_(-reach, reach))
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
            reason = f"n-grams, which {rows:,} training rows are enough for"
            name, suits = table_at_hand(values) or ("", True)
            if not suits:
                reason += f"; {name}, at hand, is for English, which these texts do not look like"
            return EncoderSuggestion({}, reason, rank=1)
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
        dtype = self.vectors.dtype
        weights = mask.to(dtype) / mask.sum(1, keepdim=True)
        if not isinstance(values, Tensor):
            weights = values["weights"].to(dtype).masked_fill(~mask, 0.0)
        places, signs = shared_vectors(tokens.masked_fill(~mask, 0), self.buckets)
        shares = self.dropout(weights.unsqueeze(-1) * signs * (SCALE / len(_HASHES) ** 0.5))
        return Features(pooled=self._sum(places.flatten(1), shares.flatten(1)))

    def _sum(self, places: Tensor, shares: Tensor) -> Tensor:
        """The sums (B, D) of shared vectors, of their numbers (B, N) and how much of each there is (B, N).

        A CPU reads those alone that a text has, and in training is left with. That needs shapes that depend on the
        values, and gives shares of 0 no gradient: other devices, compilers and who asks for gradients of the shares
        multiply by all shared vectors.
        """
        if shares.device.type != "cpu" or shares.requires_grad or torch.compiler.is_compiling():
            whole = shares.new_zeros(shares.shape[0], self.buckets)
            return whole.scatter_add(1, places, shares) @ self.vectors + self.bias
        rows, columns = shares.nonzero(as_tuple=True)
        begins = torch.searchsorted(rows, torch.arange(len(shares)))
        found, own = places[rows, columns], shares[rows, columns]
        return F.embedding_bag(found, self.vectors, begins, mode="sum", per_sample_weights=own) + self.bias


def shared_vectors(tokens: Tensor, buckets: int) -> tuple[Tensor, Tensor]:
    """Which of the shared vectors some tokens are made of, and the signs: twice (..., 4), of numbers (...).

    The hash functions mix as those of MurmurHash3 do, in 31 bits, so that 64 hold every product.
    """
    mask = 0x7FFFFFFF
    mixed = (tokens.long().unsqueeze(-1) * 2_654_435_761 + torch.tensor(_HASHES, device=tokens.device)) & mask
    for factor, shift in ((0x2C1B3C6D, 15), (0x297A2D39, 12)):
        mixed = ((mixed ^ (mixed >> shift)) * factor) & mask
    mixed = mixed ^ (mixed >> 15)
    return (mixed >> 1) % buckets, 1 - 2 * (mixed & 1)


def weighted_tokens(spec: Spec | Mapping[str, Spec]) -> tuple[Spec | None, Spec | None]:
    """The specs of tokens and of their weights, if these have any; twice None if it is something else."""
    arrays = {"tokens": spec} if isinstance(spec, Spec) else dict(spec)
    tokens, weights = arrays.get("tokens"), arrays.get("weights")
    if tokens is None or len(arrays) != (1 if weights is None else 2):
        return None, None
    numbered = tokens.axes == TOKENS and tokens.vocabulary_size is not None and tokens.dtype.startswith(("int", "uint"))
    weighted = weights is None or (weights.axes == TOKENS and "float" in weights.dtype)
    return (tokens, weights) if numbered and weighted else (None, None)
