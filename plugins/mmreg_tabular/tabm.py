"""Many multilayer perceptrons at once, which share most of their weights.

Axes: B batch, E members of the ensemble, D features.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import torch
from annotated_types import Ge, Le, Lt
from torch import Tensor, nn

from mmreg import Features, Signal, Spec
from mmreg_tabular.embeddings import ColumnEncoder


class TabM(ColumnEncoder):
    """TabM (Gorishniy et al. 2025): perceptrons whose linear layers differ by two vectors and a bias alone.

    Each member ends with a linear layer of its own, and what it gives is their mean. (The paper averages the members'
    predictions and losses; here a fusion or a head comes after the mean.)

    Args:
        members: E, how many perceptrons there are.
        hidden_size: the units of each hidden layer.
        num_layers: how many hidden layers.
        dropout: the share of values dropped after each hidden layer.
    """

    def __init__(
        self,
        spec: Mapping[str, Spec],
        *,
        members: Annotated[int, Ge(1), Le(1024)] = 32,
        hidden_size: Annotated[int, Ge(1)] = 256,
        num_layers: Annotated[int, Ge(1), Le(100)] = 2,
        dropout: Annotated[float, Ge(0), Lt(1)] = 0.1,
        **options: Any,
    ) -> None:
        super().__init__(spec, **options)
        size = self.width
        self.layers = nn.ModuleList()
        for number in range(num_layers):
            self.layers.append(EnsembleLinear(members, size, hidden_size, signs=number == 0))
            size = hidden_size
        self.dropout = nn.Dropout(dropout)
        bound = size**-0.5
        self.weight = nn.Parameter(torch.empty(members, size, self.out_features).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(members, self.out_features).uniform_(-bound, bound))

    def forward(self, signal: Signal[Any]) -> Features:
        """Encode numbers (B, N) and categories (B, C) to pooled (B, D)."""
        values = self.embedded(signal).unsqueeze(1)  # the same for all members
        for layer in self.layers:
            values = self.dropout(layer(values).relu())
        members = torch.einsum("beh,ehd->bed", values, self.weight) + self.bias
        return Features(pooled=members.mean(1))


class EnsembleLinear(nn.Module):
    """A linear layer for each member: s * (W (r * x)) + b, with one W for all (Wen et al. 2020).

    Args:
        members: E.
        in_features: the size of x.
        out_features: the size of the result.
        signs: whether r begins as random signs, so that members differ from the first step on; else as ones.
    """

    def __init__(self, members: int, in_features: int, out_features: int, signs: bool) -> None:
        super().__init__()
        bound = in_features**-0.5
        self.weight = nn.Parameter(torch.empty(out_features, in_features).uniform_(-bound, bound))
        first = torch.randint(0, 2, (members, in_features)) * 2.0 - 1 if signs else torch.ones(members, in_features)
        self.r = nn.Parameter(first)
        self.s = nn.Parameter(torch.ones(members, out_features))
        self.bias = nn.Parameter(torch.empty(members, out_features).uniform_(-bound, bound))

    def forward(self, values: Tensor) -> Tensor:
        """(B, E or 1, in) to (B, E, out)."""
        return nn.functional.linear(values * self.r, self.weight) * self.s + self.bias
