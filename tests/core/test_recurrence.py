"""`mmreg.recurrence.scanned`: the states of torch's own recurrent layers, at sizes that were not traced."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mmreg.recurrence import scanned

LAYERS = {
    "LSTM": lambda: nn.LSTM(4, 5, batch_first=True),
    "LSTM without biases": lambda: nn.LSTM(4, 5, batch_first=True, bias=False),
    "LSTM projected": lambda: nn.LSTM(4, 5, batch_first=True, proj_size=3),
    "GRU": lambda: nn.GRU(4, 5, batch_first=True),
    "GRU without biases": lambda: nn.GRU(4, 5, batch_first=True, bias=False),
    "RNN tanh": lambda: nn.RNN(4, 5, batch_first=True),
    "RNN relu": lambda: nn.RNN(4, 5, batch_first=True, nonlinearity="relu"),
}
SIZES = ((1, 1), (2, 9), (6, 40))
"""Rows and steps; what is traced has others."""


class Scanned(nn.Module):
    """A layer's states, as they are exported."""

    def __init__(self, layer: nn.RNNBase) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, values: Tensor, begin: list[Tensor]) -> Any:
        layer = self.layer
        given = begin if layer.mode == "LSTM" else begin[0]
        return scanned(layer.mode, values, given, layer.all_weights[0], layer.bias)[0]


def inputs(layer: nn.RNNBase, rows: int, steps: int) -> tuple[Tensor, list[Tensor]]:
    """Values, and a state other than zeros to begin with."""
    generator = torch.Generator().manual_seed(rows)
    sizes = [layer.proj_size or layer.hidden_size, layer.hidden_size][: 1 + (layer.mode == "LSTM")]
    begin = [torch.randn(1, rows, size, generator=generator) for size in sizes]
    return torch.randn(rows, steps, 4, generator=generator), begin


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("name", LAYERS)
def test_a_scan_gives_the_states_of_torch_s_own_layer_at_sizes_that_were_not_traced(name: str) -> None:
    torch.manual_seed(0)
    layer = LAYERS[name]()
    example = inputs(layer, 3, 7)
    varying = torch.export.Dim.DYNAMIC
    shapes = ({0: varying, 1: varying}, [{1: varying} for _ in example[1]])
    with torch.no_grad():
        exported = torch.export.export(Scanned(layer), example, dynamic_shapes=shapes, strict=False).module()
        for rows, steps in SIZES:
            values, begin = inputs(layer, rows, steps)
            wanted, _ = layer(values, tuple(begin) if layer.mode == "LSTM" else begin[0])
            torch.testing.assert_close(exported(values, begin), wanted, rtol=1e-5, atol=1e-6)
