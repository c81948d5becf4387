"""The recurrent encoder: an LSTM, GRU or plain RNN over tokens or vectors, pooled over valid steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, cast

import torch
from annotated_types import Ge, Le, Lt
from torch import Tensor, nn

from mmreg import SEQUENCE, TOKENS, Asset, Encoder, Features, Outputs, Signal, Spec, WeightsAsset
from mmreg.errors import SpecError
from mmreg.layers import Pooling, SequencePool, length_mask, recurrent_states
from mmreg_text.table import find_table, read_table, size_refusal, table_options, tokenizer_path

_CELLS: Mapping[str, type[nn.LSTM | nn.GRU | nn.RNN]] = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}


class TextRNN(Encoder):
    """Embedding (of tokens; vectors are taken as they are), recurrent layers, pooling, and a linear layer.

    With `bidirectional=False, dropout=0, pooling="last"` it is the textbook model: embedding, an LSTM of two layers
    with 100 units, its state after the last valid step, a linear layer. The defaults suit small data better.

    Args:
        spec: tokens "T" with a vocabulary size, or vectors "TC" with a fixed C.
        features: D, the size of what it gives.
        embedding_size: the size of a token's vector; not used when the modality yields vectors, or with `embeddings`.
        hidden_size: the units of each layer (and direction).
        num_layers: how many recurrent layers.
        cell: `lstm` (Hochreiter & Schmidhuber 1997), `gru` (Cho et al. 2014) or `rnn` (Elman 1990, tanh).
        bidirectional: whether a second network reads from the end to the begin.
        dropout: the share of values dropped after the embedding, between the layers and before the linear layer.
        pooling: what becomes of the steps: the `last` valid one (of the backward network: its last, which is the
            first step), their `mean`, their `max`, or learned `attention`. Not used when tokens are asked for.
        embeddings: a table of pretrained vectors that the embedding begins with, as the `weights` of static_embedding.
        tokenizer: the tokenizer.json of that table. Without it: the one beside it.
        outputs: "pooled", or "tokens" for one vector a step.

    Raises:
        OptionError: no such table, or none that goes with the tokenizer.
        SpecError: from a spec that `accepts` refuses.
    """

    provides: ClassVar[frozenset[Outputs]] = frozenset({"pooled", "tokens"})
    drops_inputs: ClassVar[bool] = True

    def __init__(
        self,
        spec: Spec,
        *,
        features: Annotated[int, Ge(1)] = 100,
        embedding_size: Annotated[int, Ge(1)] = 300,
        hidden_size: Annotated[int, Ge(1)] = 100,
        num_layers: Annotated[int, Ge(1), Le(1000)] = 2,
        cell: Literal["lstm", "gru", "rnn"] = "lstm",
        bidirectional: bool = True,
        dropout: Annotated[float, Ge(0), Lt(1)] = 0.2,
        pooling: Pooling = "max",
        embeddings: WeightsAsset | None = None,
        tokenizer: Asset | None = None,
        outputs: Outputs = "pooled",
        restored: bool = False,
    ) -> None:
        super().__init__()
        if reason := self.accepts(spec, {} if restored else {"embeddings": embeddings, "tokenizer": tokenizer}):
            raise SpecError(f"text_rnn does not take {spec}: {reason}")
        self._cell, self._layers = cell, (hidden_size, num_layers, bidirectional, dropout if num_layers > 1 else 0.0)
        self._vocabulary_size = spec.vocabulary_size
        self._pretrained = embeddings is not None
        if embeddings is None or spec.vocabulary_size is None:
            self._make(embedding_size if spec.vocabulary_size is not None else cast(int, spec.shape[-1]))
        elif not restored:
            rows, _ = read_table(find_table(embeddings), tokenizer_path(embeddings, tokenizer), spec.vocabulary_size)
            self._make(rows.shape[1])
            assert self.embedding is not None
            with torch.no_grad():
                self.embedding.weight.copy_(rows)
        self.dropout = nn.Dropout(dropout)
        width = hidden_size * (2 if bidirectional else 1)
        self.pool = SequencePool(width, pooling) if outputs == "pooled" else None
        self.linear = nn.Linear(width, features)
        self.out_features = features

    def _make(self, size: int) -> None:
        """Make what depends on the size of a token's vector."""
        hidden_size, num_layers, bidirectional, dropout = self._layers
        self.embedding: nn.Embedding | None = None
        if self._vocabulary_size is not None:
            self.embedding = nn.Embedding(self._vocabulary_size, size, padding_idx=0)
        self.rnn = _CELLS[self._cell](
            size, hidden_size, num_layers, batch_first=True, bidirectional=bidirectional, dropout=dropout
        )

    def state(self) -> dict[str, Any]:
        """The size of a pretrained vector."""
        return {"embedding_size": self.rnn.input_size} if self._pretrained else {}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Make the layers that take vectors of this size; their weights are loaded afterwards."""
        if "embedding_size" in state:
            self._make(state["embedding_size"])

    @classmethod
    def modality_options(cls, options: Mapping[str, Any]) -> Mapping[str, Any]:
        """The tokenizer of the pretrained table, if there is one."""
        return table_options(options.get("embeddings"), options.get("tokenizer"))

    @classmethod
    def accepts(cls, spec: Spec, options: Mapping[str, Any]) -> str | None:
        """It takes tokens with a vocabulary size, and sequences of floating-point vectors of one size."""
        if spec.axes == SEQUENCE and options.get("embeddings") is not None:
            return f'its embeddings are for tokens "{TOKENS}"; leave them out'
        if spec.axes == TOKENS:
            if spec.vocabulary_size is None or not spec.dtype.startswith(("int", "uint")):
                return f'it takes tokens "{TOKENS}" that are integers below a known vocabulary size'
            embeddings = options.get("embeddings")
            return embeddings and size_refusal(embeddings, options.get("tokenizer"), spec.vocabulary_size)
        if spec.axes == SEQUENCE:
            if spec.size("C") is None or "float" not in spec.dtype:
                return f'it takes a sequence "{SEQUENCE}" of floating-point vectors, all of one size C'
            return None
        return f'it takes tokens "{TOKENS}" (such as text) or a sequence of vectors "{SEQUENCE}"'

    def forward(self, signal: Signal) -> Features:
        """Encode tokens (B, T) or vectors (B, T, C) to pooled (B, D), or to tokens (B, T, D) with their mask."""
        values, mask = signal.values, self._mask(signal)
        if self.embedding is not None:
            values = self.embedding(values if mask is None else values.masked_fill(~mask, 0))
        elif mask is not None:
            values = values.masked_fill(~mask.unsqueeze(-1), 0)
        values = self.dropout(values) if self.drops_inputs else values
        states = recurrent_states(self.rnn, values, None if mask is None else signal.lengths)
        if self.pool is None:
            return Features(tokens=self.linear(self.dropout(states)), mask=mask)
        return Features(pooled=self.linear(self.dropout(self._pooled(self.pool, states, mask))))

    def _mask(self, signal: Signal) -> Tensor | None:
        """(B, T), or None where all steps are known to be valid."""
        size = signal.values.shape[1]
        host = signal.host_lengths
        if signal.lengths is None or (host is not None and bool((host == size).all())):
            return None
        return length_mask(signal.lengths, size)

    def _pooled(self, pool: SequencePool, states: Tensor, mask: Tensor | None) -> Tensor:
        """(B, H or 2 H)."""
        if pool.how == "last" and self.rnn.bidirectional:
            forward, backward = states.chunk(2, -1)
            return torch.cat([pool(forward, mask), backward[:, 0]], -1)
        pooled: Tensor = pool(states, mask)
        return pooled
