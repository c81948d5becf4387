"""A multilayer perceptron over embeddings of a row's columns.

Axes: B batch, D features.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from annotated_types import Ge, Gt, Le, Lt

from mmreg import Encoder, Features, Signal, Spec
from mmreg.errors import SpecError
from mmreg.layers import MLP
from mmreg_tabular.embeddings import ColumnEmbeddings, NumberEmbedding, refusal


class TabularMLP(Encoder):
    """Embeds each column, and gives all embeddings together to a multilayer perceptron (Gorishniy et al. 2022).

    Args:
        spec: "numbers", "missing" and "categories".
        features: D, the size of what it gives.
        hidden_size: the units of each hidden layer.
        num_layers: how many hidden layers.
        dropout: the share of values dropped after each hidden layer.
        embedding_size: the size of a column's embedding.
        numbers: how numbers are embedded: `periodic` (cosines and sines of learned frequencies) or `linear`.
        frequencies: how many frequencies a column of numbers has, if they are periodic.
        frequency_scale: the deviation of the first frequencies; larger ones see finer differences.

    Raises:
        SpecError: from a spec that `accepts` refuses.
    """

    multiple_arrays = True

    def __init__(
        self,
        spec: Mapping[str, Spec],
        *,
        features: Annotated[int, Ge(1)] = 128,
        hidden_size: Annotated[int, Ge(1)] = 256,
        num_layers: Annotated[int, Ge(1), Le(100)] = 2,
        dropout: Annotated[float, Ge(0), Lt(1)] = 0.2,
        embedding_size: Annotated[int, Ge(1)] = 16,
        numbers: NumberEmbedding = "periodic",
        frequencies: Annotated[int, Ge(1)] = 24,
        frequency_scale: Annotated[float, Gt(0), Le(1e3)] = 0.1,
    ) -> None:
        super().__init__()
        if reason := self.accepts(spec, {}):
            raise SpecError(f"tabular_mlp does not take what it gets: {reason}")
        self.embeddings = ColumnEmbeddings(spec, embedding_size, numbers, frequencies, frequency_scale)
        self.mlp = MLP(self.embeddings.columns * embedding_size, [hidden_size] * num_layers, features, dropout)
        self.out_features = features

    @classmethod
    def accepts(cls, spec: Spec | Mapping[str, Spec], options: Mapping[str, Any]) -> str | None:
        """It takes what the tabular modality gives."""
        return refusal(spec)

    def forward(self, signal: Signal[Any]) -> Features:
        """Encode numbers (B, N) and categories (B, C) to pooled (B, D)."""
        return Features(pooled=self.mlp(self.embeddings(signal).flatten(1)))
