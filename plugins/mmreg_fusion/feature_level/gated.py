"""Operators that let modalities pass, or scale each other, by learned gates.

Axes: B batch, D features, M modalities.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from mmreg import FeatureFusion, Features
from mmreg.layers import at_least_float32
from mmreg_fusion.feature_level.common import Depth, Projections, Share, Size, pooled
from mmreg_fusion.precision import narrow


class GMU(FeatureFusion):
    """Gated multimodal unit: F = sum_i z_i * h_i with h_i = tanh(W_i x_i + b_i), z_i = sigmoid(G_i [x1..xn] + c_i).

    The unit for any number of modalities in Arevalo 2017, "Gated multimodal units for information fusion". An absent
    modality has neither h_i nor z_i and is zeros in the others' gates. Cost: M D features + M^2 D features.

    Pooled (B, D) of each modality; gives (B, features).

    Args:
        features: the size of each h_i, and of the result.
    """

    def __init__(self, inputs: Mapping[str, int], *, features: Size = 128) -> None:
        super().__init__()
        self.projections = Projections(inputs, features)
        self.gates = nn.Linear(sum(inputs.values()), len(inputs) * features)
        self.out_features = features

    def forward(self, features: Mapping[str, Features], present: Tensor) -> Features:
        """Fuse features (B, D) with present (B, M) bool to (B, features)."""
        hidden = torch.tanh(self.projections(features, present))
        gates = torch.sigmoid(self.gates(torch.cat(pooled(features, present), 1)))
        return Features((gates.view_as(hidden) * hidden).sum(1))


class FiLM(FeatureFusion):
    """Feature-wise linear modulation: the other modalities scale and shift the first one's features.

    F = (1 + sum_j S_j x_j) * (W x_1 + b) + sum_j (T_j x_j + c_j), j over the other modalities present. Perez 2018,
    "FiLM: visual reasoning with a general conditioning layer" (the scale is written as a change from one, as there).
    The order matters: the first modality is the one that is modulated. If it is absent, the shift alone is left; with
    one modality, F = W x_1 + b. Products in float32 at least. Cost: 2 M D features.

    Pooled (B, D) of each modality; gives (B, features).

    Args:
        features: the size of the modulated vector, and of the result.
    """

    ordered: ClassVar[bool] = True

    def __init__(self, inputs: Mapping[str, int], *, features: Size = 128) -> None:
        super().__init__()
        first, *others = inputs
        self.content = Projections({first: inputs[first]}, features)
        conditions = {name: inputs[name] for name in others}
        self.scale = Projections(conditions, features, bias=False) if others else None
        self.shift = Projections(conditions, features) if others else None
        self.out_features = features

    def forward(self, features: Mapping[str, Features], present: Tensor) -> Features:
        """Fuse features (B, D) with present (B, M) bool to (B, features)."""
        first, *others = features
        content = self.content({first: features[first]}, present[:, :1]).squeeze(1)
        if self.scale is None or self.shift is None:
            return Features(content)
        conditions = {name: features[name] for name in others}
        scale = 1 + at_least_float32(self.scale(conditions, present[:, 1:])).sum(1)
        shift = at_least_float32(self.shift(conditions, present[:, 1:])).sum(1)
        return Features(narrow(scale * at_least_float32(content) + shift, content.dtype))


class Highway(FeatureFusion):
    """Highway layers over the concatenation of projections.

    h = [W_1 x_1 + b_1, ..., W_n x_n + b_n], then in every layer h <- t * relu(H h + c) + (1 - t) * h with the gate
    t = sigmoid(T h + d). Srivastava 2015, "Training very deep networks"; d starts at -1, so that a layer starts
    by carrying its input on. An absent modality enters as a block of zeros.
    Cost: M D features + 2 num_layers (M features)^2.

    Pooled (B, D) of each modality; gives (B, M features).

    Args:
        features: the width to which each modality is projected.
        num_layers: how many highway layers.
        dropout: the share of values dropped after each layer.
    """

    def __init__(
        self, inputs: Mapping[str, int], *, features: Size = 128, num_layers: Depth = 2, dropout: Share = 0.0
    ) -> None:
        super().__init__()
        width = len(inputs) * features
        self.projections = Projections(inputs, features)
        self.transforms = nn.ModuleList(nn.Linear(width, width) for _ in range(num_layers))
        gates = [nn.Linear(width, width) for _ in range(num_layers)]
        for gate in gates:
            nn.init.constant_(gate.bias, -1.0)
        self.gates = nn.ModuleList(gates)
        self.dropout = nn.Dropout(dropout)
        self.out_features = width

    def forward(self, features: Mapping[str, Features], present: Tensor) -> Features:
        """Fuse features (B, D) with present (B, M) bool to (B, M features)."""
        hidden = self.projections(features, present).flatten(1)
        for transform, gate in zip(self.transforms, self.gates, strict=True):
            share = torch.sigmoid(gate(hidden))
            hidden = self.dropout(hidden + share * (torch.relu(transform(hidden)) - hidden))
        return Features(hidden)
