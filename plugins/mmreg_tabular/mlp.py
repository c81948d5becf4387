"""A multilayer perceptron over embeddings of a row's columns.

Axes: B batch, D features.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from annotated_types import Ge, Le, Lt

from mmreg import Features, Signal, Spec
from mmreg.layers import MLP
from mmreg_tabular.embeddings import ColumnEncoder


class TabularMLP(ColumnEncoder):
    """Embeds each column, and gives all embeddings together to a multilayer perceptron (Gorishniy et al. 2022).

    Args:
        hidden_size: the units of each hidden layer.
        num_layers: how many hidden layers.
        dropout: the share of values dropped after each hidden layer.
    """

    def __init__(
        self,
        spec: Mapping[str, Spec],
        *,
        hidden_size: Annotated[int, Ge(1)] = 256,
        num_layers: Annotated[int, Ge(1), Le(100)] = 2,
        dropout: Annotated[float, Ge(0), Lt(1)] = 0.2,
        **options: Any,
    ) -> None:
        super().__init__(spec, **options)
        self.mlp = MLP(self.width, [hidden_size] * num_layers, self.out_features, dropout)

    def forward(self, signal: Signal[Any]) -> Features:
        """Encode numbers (B, N) and categories (B, C) to pooled (B, D)."""
        return Features(pooled=self.mlp(self.embedded(signal)))
