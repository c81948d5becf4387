"""A transformer over patches of a series.

Axes: B batch, T time, P patches, C channels, D features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import torch
from annotated_types import Ge, Le, Lt
from torch import Tensor, nn

from mmreg import SEQUENCE, Features, Outputs, Signal, Spec
from mmreg.errors import SpecError
from mmreg.layers import Pooling, length_mask
from mmreg_sequence.rotary import RotaryTransformer


class PatchTransformer(RotaryTransformer):
    """Cuts a series into patches of some steps each, and lets a transformer see a vector a patch (PatchTST, Nie 2023).

    All channels of a patch are one vector. The last patch is filled up with zeros. Positions are rotary.

    Args:
        spec: vectors "TC" with a fixed C.
        features: D, the size of what it gives.
        patch: steps a patch.
        hidden_size: the size of a patch's vector within; an even multiple of `num_heads`.
        num_layers: how many layers.
        num_heads: how many heads the attention has.
        dropout: the share of values dropped after the first layer, of attention weights, and of what each part adds.
        pooling: what becomes of the patches: their `mean`, their `max`, the `last` one, or learned `attention`. Not
            used when tokens are asked for.
        outputs: "pooled", or "tokens" for one vector a patch.

    Raises:
        SpecError: from a spec that `accepts` refuses.
        OptionError: `hidden_size` is no even multiple of `num_heads`.
    """

    def __init__(
        self,
        spec: Spec,
        *,
        features: Annotated[int, Ge(1)] = 128,
        patch: Annotated[int, Ge(1), Le(10_000)] = 16,
        hidden_size: Annotated[int, Ge(2)] = 128,
        num_layers: Annotated[int, Ge(1), Le(100)] = 2,
        num_heads: Annotated[int, Ge(1)] = 4,
        dropout: Annotated[float, Ge(0), Lt(1)] = 0.1,
        pooling: Pooling = "mean",
        outputs: Outputs = "pooled",
    ) -> None:
        super().__init__()
        if reason := self.accepts(spec, {}):
            raise SpecError(f"patch_transformer does not take {spec}: {reason}")
        channels = spec.size("C")
        assert channels is not None
        self.patch = patch
        self.project = nn.Linear(patch * channels, hidden_size)
        self.make_layers(hidden_size, num_layers, num_heads, 4 * hidden_size, dropout, pooling, outputs, features)

    @classmethod
    def accepts(cls, spec: Spec, options: Mapping[str, Any]) -> str | None:
        """It takes sequences of floating-point vectors of one size."""
        if spec.axes == SEQUENCE and spec.size("C") is not None and "float" in spec.dtype:
            return None
        return f'it takes a sequence "{SEQUENCE}" of floating-point vectors, all of one size C'

    def stages(self) -> Sequence[nn.Module]:
        """The first layer, then each layer of the transformer."""
        return [self.project, *self.layers]

    def forward(self, signal: Signal) -> Features:
        """Encode vectors (B, T, C) to pooled (B, D), or to tokens (B, P, D) with their mask."""
        values, mask = self._patches(signal)
        return self.encoded(self.project(values), mask)

    def _patches(self, signal: Signal) -> tuple[Tensor, Tensor | None]:
        """The patches (B, P, patch x C), and which have a valid step, (B, P) bool; None where all have."""
        values, lengths, host = signal.values, signal.lengths, signal.host_lengths
        steps = values.shape[1]
        even = lengths is None or (host is not None and bool((host == steps).all()))
        if lengths is not None and not even:
            values = values.masked_fill(~length_mask(lengths, steps).unsqueeze(-1), 0)
        count = (steps + self.patch - 1) // self.patch
        values = nn.functional.pad(values, (0, 0, 0, count * self.patch - steps))
        mask = None
        if lengths is not None and not even:
            mask = length_mask(torch.div(lengths + self.patch - 1, self.patch, rounding_mode="floor"), count)
        return values.reshape(values.shape[0], count, -1), mask
