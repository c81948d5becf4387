"""An encoder: from a modality's signal to features.

Axes: B batch, T steps, C channels, D features.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from annotated_types import Ge, Lt
from torch import nn

from mmreg import SEQUENCE, Encoder, Features, Outputs, Signal, Spec
from mmreg.errors import SpecError
from mmreg.layers import MLP, length_mask, masked_mean


class SkeletonEncoder(Encoder):
    """A perceptron that is applied to every step of a sequence, and the mean of the steps.

    Args:
        features: the size of what it gives.
        hidden: the size of the hidden layer.
        dropout: the share of values dropped after the hidden layer.
    """

    version: ClassVar[int] = 1  # raise it whenever the weights of an earlier release would not fit
    provides: ClassVar[frozenset[Outputs]] = frozenset({"pooled", "tokens"})

    def __init__(
        self,
        spec: Spec,
        *,
        features: Annotated[int, Ge(1)] = 64,
        hidden: Annotated[int, Ge(1)] = 64,
        dropout: Annotated[float, Ge(0), Lt(1)] = 0.1,
        outputs: Outputs = "pooled",
    ) -> None:
        super().__init__()
        if reason := self.accepts(spec, {}):
            raise SpecError(f"skeleton does not take {spec}: {reason}")
        size = spec.size("C")
        assert size is not None
        self.outputs = outputs
        self.steps = nn.Sequential(MLP(size, [hidden], features, dropout), nn.Tanh())
        self.out_features = features

    @classmethod
    def accepts(cls, spec: Spec, options: Mapping[str, Any]) -> str | None:
        """It takes sequences of floating-point vectors of one size."""
        if spec.axes != SEQUENCE or spec.size("C") is None or "float" not in spec.dtype:
            return f"it takes a sequence ({SEQUENCE}) of floating-point vectors that are all of one size"
        return None

    def forward(self, signal: Signal) -> Features:
        """Encode (B, T, C) to pooled (B, D), or to tokens (B, T, D) with their mask."""
        values, mask = signal.values, None
        if signal.lengths is not None:
            # Padding may hold anything, and must have no influence.
            mask = length_mask(signal.lengths, values.shape[1])
            values = values.masked_fill(~mask.unsqueeze(-1), 0)
        steps = self.steps(values)
        if self.outputs == "tokens":
            return Features(tokens=steps, mask=mask)
        return Features(pooled=masked_mean(steps, mask))
