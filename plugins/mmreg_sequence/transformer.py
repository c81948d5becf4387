"""A transformer over a sequence's steps.

Axes: B batch, T time or tokens, D features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from annotated_types import Ge, Le, Lt
from torch import nn

from mmreg import Features, Outputs, Signal, Spec
from mmreg.errors import SpecError
from mmreg.layers import Pooling
from mmreg_sequence.rotary import RotaryTransformer
from mmreg_sequence.steps import Steps, refusal


class SequenceTransformer(RotaryTransformer):
    """Layers of attention and a feed-forward part (Vaswani 2017), normalised first; positions by rotation (Su 2021).

    Rotary positions know distances alone, so sequences may be longer in use than in training.

    Args:
        spec: tokens "T" with a vocabulary size, or vectors "TC" with a fixed C.
        features: D, the size of what it gives.
        hidden_size: the size of a step's vector within; an even multiple of `num_heads`.
        num_layers: how many layers.
        num_heads: how many heads the attention has.
        feedforward_size: the units of the feed-forward part; four times `hidden_size` if not given.
        dropout: the share of values dropped after the embedding, of attention weights, and of what each part adds.
        pooling: what becomes of the steps: the `last` valid one, their `mean`, their `max`, or learned `attention`. Not
            used when tokens are asked for.
        outputs: "pooled", or "tokens" for one vector a step.

    Raises:
        SpecError: from a spec that `accepts` refuses.
        OptionError: `hidden_size` is no even multiple of `num_heads`.
    """

    def __init__(
        self,
        spec: Spec,
        *,
        features: Annotated[int, Ge(1)] = 100,
        hidden_size: Annotated[int, Ge(2)] = 128,
        num_layers: Annotated[int, Ge(1), Le(100)] = 2,
        num_heads: Annotated[int, Ge(1)] = 4,
        feedforward_size: Annotated[int, Ge(1)] | None = None,
        dropout: Annotated[float, Ge(0), Lt(1)] = 0.1,
        pooling: Pooling = "mean",
        outputs: Outputs = "pooled",
    ) -> None:
        super().__init__()
        if reason := self.accepts(spec, {}):
            raise SpecError(f"transformer does not take {spec}: {reason}")
        self.steps = Steps(spec, hidden_size)
        inner = feedforward_size or 4 * hidden_size
        self.make_layers(hidden_size, num_layers, num_heads, inner, dropout, pooling, outputs, features)

    @classmethod
    def accepts(cls, spec: Spec, options: Mapping[str, Any]) -> str | None:
        """It takes tokens with a vocabulary size, and sequences of floating-point vectors of one size."""
        return refusal(spec)

    def stages(self) -> Sequence[nn.Module]:
        """The embedding, then each layer."""
        return [self.steps, *self.layers]

    def forward(self, signal: Signal) -> Features:
        """Encode tokens (B, T) or vectors (B, T, C) to pooled (B, D), or to tokens (B, T, D) with their mask."""
        return self.encoded(*self.steps(signal))
