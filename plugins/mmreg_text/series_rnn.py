"""The recurrent encoder for what comes as vectors: series of measurements, frames of a sound, embeddings in a row.

Axes: B batch, T time, C size of a given vector, D features.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Le, Lt

from mmreg import SEQUENCE, Outputs, Spec
from mmreg.errors import SpecError
from mmreg.layers import Pooling
from mmreg_text.rnn import TextRNN


class RNN(TextRNN):
    """An LSTM, GRU or plain RNN over vectors as they are, pooling of its states, and a linear layer.

    It is `text_rnn` without what is of tokens alone, and without dropout of what it is given, as a measurement says
    more than a word.

    Args:
        spec: vectors "TC" with a fixed C.
        features: D, the size of what it gives.
        hidden_size: the units of each layer (and direction).
        num_layers: how many recurrent layers.
        cell: `lstm` (Hochreiter & Schmidhuber 1997), `gru` (Cho et al. 2014) or `rnn` (Elman 1990, tanh).
        bidirectional: whether a second network reads from the end to the begin.
        dropout: the share of values dropped between the layers and before the linear layer.
        pooling: what becomes of the steps: the `last` valid one (of the backward network: its last, which is the
            first step), their `mean`, their `max`, or learned `attention`. Not used when tokens are asked for.
        outputs: "pooled", or "tokens" for one vector a step.

    Raises:
        SpecError: from a spec that `accepts` refuses.
    """

    drops_inputs: ClassVar[bool] = False

    def __init__(
        self,
        spec: Spec,
        *,
        features: Annotated[int, Ge(1)] = 128,
        hidden_size: Annotated[int, Ge(1)] = 100,
        num_layers: Annotated[int, Ge(1), Le(1000)] = 2,
        cell: Literal["lstm", "gru", "rnn"] = "lstm",
        bidirectional: bool = True,
        dropout: Annotated[float, Ge(0), Lt(1)] = 0.1,
        pooling: Pooling = "mean",
        outputs: Outputs = "pooled",
    ) -> None:
        if reason := self.accepts(spec, {}):
            raise SpecError(f"rnn does not take {spec}: {reason}")
        super().__init__(
            spec,
            features=features,
            hidden_size=hidden_size,
            num_layers=num_layers,
            cell=cell,
            bidirectional=bidirectional,
            dropout=dropout,
            pooling=pooling,
            outputs=outputs,
        )

    @classmethod
    def accepts(cls, spec: Spec, options: Mapping[str, Any]) -> str | None:
        """It takes sequences of floating-point vectors of one size."""
        if spec.axes != SEQUENCE:
            return f'it takes a sequence of vectors "{SEQUENCE}", such as a series; tokens go to text_rnn'
        return super().accepts(spec, {})
