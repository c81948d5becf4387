"""Recurrent layers as a scan over steps, the form in which they can be exported for any number of steps.

torch's own kernels are traced for the one T of the example, and packed sequences cannot be traced at all.

Axes: B batch, T time, D features, H hidden.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.nn.functional import linear


def scanned(mode: str, values: Tensor, begin: Any, weights: Sequence[Tensor], has_biases: bool, *_: Any) -> Any:
    """The states of one layer in one direction, as `torch.lstm`, `torch.gru` and `torch.rnn_tanh` give them.

    Args:
        mode: "LSTM", "GRU", "RNN_TANH" or "RNN_RELU", as `torch.nn.RNNBase.mode`.
        values: (B, T, D).
        begin: the state (1, B, H) to begin with; of an LSTM, also the cell.
        weights: (gates H, D) of the input, (gates H, H) of the state, their biases if there are any, and a projection
            of an LSTM's states.
        has_biases: whether there are biases.

    Returns:
        A tuple whose first entry is the states (B, T, H). The final state is not given.
    """
    from torch._higher_order_ops.scan import scan  # where it is public; ONNX has the same as Scan

    of_input, of_state, *rest = weights
    input_bias, state_bias = (rest.pop(0), rest.pop(0)) if has_biases else (None, None)
    projection = rest[0] if rest else None
    inputs = linear(values, of_input, input_bias).transpose(0, 1)

    def step(state: list[Tensor], given: Tensor) -> tuple[list[Tensor], Tensor]:
        hidden = state[0]
        recurred = linear(hidden, of_state, state_bias)
        if mode == "LSTM":
            enter, forget, candidate, leave = (given + recurred).chunk(4, -1)
            cell = forget.sigmoid() * state[1] + enter.sigmoid() * candidate.tanh()
            hidden = leave.sigmoid() * cell.tanh()
            hidden = hidden if projection is None else linear(hidden, projection)
            return [hidden, cell], hidden.clone()  # what a scan gives must not be the same tensor twice
        if mode == "GRU":
            (reset, update, new), (old_reset, old_update, old_new) = given.chunk(3, -1), recurred.chunk(3, -1)
            kept = (update + old_update).sigmoid()
            candidate = (new + (reset + old_reset).sigmoid() * old_new).tanh()
            hidden = kept * hidden + (1 - kept) * candidate
        else:
            hidden = (given + recurred).tanh() if mode == "RNN_TANH" else (given + recurred).relu()
        return [hidden], hidden.clone()

    first = [begin[0][0], begin[1][0]] if mode == "LSTM" else [begin[0]]
    _, states = scan(step, first, inputs)
    return (states.transpose(0, 1),)
