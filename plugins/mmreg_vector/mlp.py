"""A multilayer perceptron for vectors.

Axes: B batch, C numbers, D features.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from annotated_types import Ge, Lt

from mmreg import VECTOR, Encoder, Features, Signal, Spec
from mmreg.errors import SpecError
from mmreg.layers import MLP


class VectorMLP(Encoder):
    """Linear layers with ReLU and dropout between them; the last one is linear.

    Args:
        spec: a vector of a known size.
        features: D, the size of what it gives.
        hidden: sizes of the hidden layers; none for a single linear layer.
        dropout: the share of values dropped after each hidden layer.

    Raises:
        SpecError: from a spec that `accepts` refuses.
    """

    def __init__(
        self,
        spec: Spec,
        *,
        features: Annotated[int, Ge(1)] = 128,
        hidden: tuple[Annotated[int, Ge(1)], ...] = (256,),
        dropout: Annotated[float, Ge(0), Lt(1)] = 0.2,
    ) -> None:
        super().__init__()
        if reason := self.accepts(spec, {}):
            raise SpecError(f"mlp does not take {spec}: {reason}")
        size = spec.size("C")
        assert size is not None
        self.mlp = MLP(size, hidden, features, dropout)
        self.out_features = features

    @classmethod
    def accepts(cls, spec: Spec, options: Mapping[str, Any]) -> str | None:
        """It takes floating-point vectors of one size."""
        if spec.axes == VECTOR and spec.size("C") is not None and "float" in spec.dtype:
            return None
        return f'it takes floating-point vectors "{VECTOR}", all of one size; sequences of them go to rnn'

    def forward(self, signal: Signal) -> Features:
        """Encode (B, C) to pooled (B, D)."""
        return Features(pooled=self.mlp(signal.values))
