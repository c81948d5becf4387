"""Modalities that exchange through a few shared tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import torch
from annotated_types import Ge, Le
from torch import Tensor, nn
from torch.nn import functional as F

from mmreg.layers import masked_mean
from mmreg_fusion.feature_level.common import Size
from mmreg_fusion.feature_level.tokens import TokenFusion


class BottleneckLayer(nn.Module):
    """A layer for each modality over its own and the shared tokens; what they write to the latter is averaged.

    Args:
        layers: an `AttentionLayer` for each modality.
    """

    def __init__(self, layers: nn.ModuleList) -> None:
        super().__init__()
        self.layers = layers

    def forward(
        self, streams: list[Tensor], shared: Tensor, masks: list[Tensor], takes_part: Tensor
    ) -> tuple[list[Tensor], Tensor]:
        """Update each modality's tokens (B, T, W) and the shared ones (B, N, W).

        Args:
            streams: each modality's tokens.
            shared: the bottleneck tokens.
            masks: for each modality, which of its own and the shared tokens are valid, (B, T + N) bool.
            takes_part: (B, M) bool, whose shared tokens enter the mean; zero where nobody's do.
        """
        count = shared.shape[1]
        updated, written = [], []
        for layer, tokens, mask in zip(self.layers, streams, masks, strict=True):
            values = layer(torch.cat([tokens, shared], 1), mask)
            updated.append(values[:, :-count])
            written.append(values[:, -count:].flatten(1))
        return updated, masked_mean(torch.stack(written, 1), takes_part).view(shared.shape)


class Bottleneck(TokenFusion):
    """A transformer for each modality; they exchange only through shared bottleneck tokens: MBT (Nagrani 2021).

    Each layer: [x_i, z_i] = layer_i([x_i, z]) for every modality i, then z = mean of z_i over the modalities present.
    Each x_i begins with a learned CLS token of its modality, and F is the mean of LN(x_i[CLS]) over the modalities
    present (zero where there is none); under a linear head that is MBT's mean of the modalities' logits.
    What one modality writes into z in a layer, the others read in the next: so there are at least two layers.

    Tokens (B, T, D) of each modality, or pooled (B, D) as one token; gives (B, W).
    Cost with N bottleneck tokens: O(M L ((T + N) W^2 + (T + N)^2 W)), linear in M; M L W^2 parameters.

    Args:
        num_bottlenecks: bottleneck tokens (N).
        num_layers: transformer layers of each modality (L), at least 2.

    Raises:
        OptionError: `features` is not a multiple of `num_heads`.
    """

    def __init__(
        self,
        inputs: Mapping[str, int],
        *,
        num_bottlenecks: Size = 4,
        num_layers: Annotated[int, Ge(2), Le(1000)] = 2,
        **options: Any,
    ) -> None:
        super().__init__(inputs, num_layers=num_layers, **options)
        self.cls = nn.ParameterList(0.02 * torch.randn(self.width) for _ in inputs)
        self.bottlenecks = nn.Parameter(0.02 * torch.randn(num_bottlenecks, self.width))
        self.layers = nn.ModuleList(BottleneckLayer(self.attention_layers(len(inputs))) for _ in range(num_layers))
        self.norm = nn.LayerNorm(self.width)

    def fuse(self, tokens: list[Tensor], masks: list[Tensor]) -> Tensor:
        """See `TokenFusion`; gives (B, W)."""
        rows, count = tokens[0].shape[0], len(self.bottlenecks)
        takes_part = torch.stack([mask.any(1) for mask in masks], 1)
        streams = [torch.cat([cls.expand(rows, 1, -1), each], 1) for cls, each in zip(self.cls, tokens, strict=True)]
        masks = [F.pad(mask, (1, count), value=True) for mask in masks]
        shared = self.bottlenecks.expand(rows, -1, -1)
        for layer in self.layers:
            streams, shared = layer(streams, shared, masks, takes_part)
        read = torch.stack([self.norm(values[:, 0]) for values in streams], 1)
        return masked_mean(read, takes_part)
