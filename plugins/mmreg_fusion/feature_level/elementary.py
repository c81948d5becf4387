"""Concatenation, sums, maxima, products and attention over the modalities' vectors.

Axes: B batch, D features, M modalities.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mmreg import FeatureFusion, Features
from mmreg.layers import MLP, AttentionPool, at_least_float32, masked_max, masked_mean
from mmreg_fusion.feature_level.common import Projections, Share, Size, input_vectors, product
from mmreg_fusion.precision import narrow


class Concat(FeatureFusion):
    """The features side by side: F = [f1, ..., fn].

    As in early fusion, such as that of Ngiam 2011, "Multimodal deep learning".
    With `project`, fi is W_i x_i + b_i, else x_i itself. An absent modality is a block of zeros.
    Cost: none by itself; M D project for the projections, then that of the hidden layers.

    Pooled (B, D) of each modality; gives (B, D_1 + ... + D_M, or M `project`, or the last of `hidden`).

    Args:
        project: the width to which each modality is projected before; None to take the features as they are.
        hidden: sizes of fully connected layers (linear, ReLU, dropout) after the concatenation; none by default.
        dropout: the share of values dropped after each hidden layer, or of the concatenation if there is none.
    """

    def __init__(
        self,
        inputs: Mapping[str, int],
        *,
        project: Size | None = None,
        hidden: tuple[Size, ...] = (),
        dropout: Share = 0.0,
    ) -> None:
        super().__init__()
        self.projections = Projections(inputs, project) if project is not None else None
        width = sum(inputs.values()) if project is None else project * len(inputs)
        layers = [MLP(width, hidden[:-1], hidden[-1], dropout), nn.ReLU()] if hidden else []
        self.layers = nn.Sequential(*layers, nn.Dropout(dropout))
        self.out_features = hidden[-1] if hidden else width

    def forward(self, features: Mapping[str, Features], present: Tensor) -> Features:
        """Fuse features (B, D) with present (B, M) bool to (B, out_features)."""
        return Features(self.layers(torch.cat(input_vectors(self.projections, features, present), 1)))


class _Projected(FeatureFusion):
    """The base of the operators on the modalities' projections p_i = W_i x_i + b_i to one width.

    Args:
        features: the width to which each modality is projected, and of the result.
    """

    def __init__(self, inputs: Mapping[str, int], *, features: Size = 128) -> None:
        super().__init__()
        self.projections = Projections(inputs, features)
        self.out_features = features


class Sum(_Projected):
    """The sum of projections: F = sum_i (W_i x_i + b_i), over the modalities present.

    The sum fusion of Feichtenhofer 2016, "Convolutional two-stream network fusion for video action recognition".
    Cost: M D features.

    Pooled (B, D) of each modality; gives (B, features).
    """

    def forward(self, features: Mapping[str, Features], present: Tensor) -> Features:
        """Fuse features (B, D) with present (B, M) bool to (B, features)."""
        return Features(self.projections(features, present).sum(1))


class Average(_Projected):
    """The mean of projections: F = 1/m sum_i (W_i x_i + b_i), over the m modalities present; zeros for none.

    The sum of Feichtenhofer 2016, "Convolutional two-stream network fusion for video action recognition", over m.
    Cost: M D features.

    Pooled (B, D) of each modality; gives (B, features).
    """

    def forward(self, features: Mapping[str, Features], present: Tensor) -> Features:
        """Fuse features (B, D) with present (B, M) bool to (B, features)."""
        return Features(masked_mean(self.projections(features, present), present))


class Maximum(_Projected):
    """The greatest projection of each feature: F = max_i (W_i x_i + b_i), over those present; zeros for none.

    The max fusion of Feichtenhofer 2016, "Convolutional two-stream network fusion for video action recognition".
    Cost: M D features.

    Pooled (B, D) of each modality; gives (B, features).
    """

    def forward(self, features: Mapping[str, Features], present: Tensor) -> Features:
        """Fuse features (B, D) with present (B, M) bool to (B, features)."""
        return Features(masked_max(self.projections(features, present), present))


class Multiply(_Projected):
    """The elementwise (Hadamard) product of projections: F = prod_i (W_i x_i + b_i), over the modalities present.

    The pointwise product of Antol 2015, "VQA: visual question answering".
    The biases start at one, so that the product starts near one plus the sum of the projections and neither vanishes
    nor loses a modality's own effect. An absent modality is a factor of one. Multiplied in float32 at least; a result
    beyond the range of a reduced precision becomes its greatest number. Cost: M D features.

    Pooled (B, D) of each modality; gives (B, features).
    """

    def __init__(self, inputs: Mapping[str, int], **options: Any) -> None:
        super().__init__(inputs, **options)
        for layer in self.projections.maps:
            assert isinstance(layer, nn.Linear)
            nn.init.ones_(layer.bias)

    def forward(self, features: Mapping[str, Features], present: Tensor) -> Features:
        """Fuse features (B, D) with present (B, M) bool to (B, features)."""
        projected = self.projections(features, present)
        factors = torch.where(present.unsqueeze(-1), at_least_float32(projected), 1)
        return Features(narrow(product(factors), projected.dtype))


class Attention(_Projected):
    """A weighted sum of projections, with weights by attention over the modalities present; zeros for none.

    F = sum_i a_i p_i with p_i = W_i x_i + b_i and a = softmax_i(v . tanh(U p_i + c)), after Bahdanau 2015, "Neural
    machine translation by jointly learning to align and translate". Cost: M (D features + features^2).

    Pooled (B, D) of each modality; gives (B, features).
    """

    def __init__(self, inputs: Mapping[str, int], **options: Any) -> None:
        super().__init__(inputs, **options)
        # A softmax over one modality would never train its scores.
        self.attention = AttentionPool(self.out_features) if len(inputs) > 1 else None

    def forward(self, features: Mapping[str, Features], present: Tensor) -> Features:
        """Fuse features (B, D) with present (B, M) bool to (B, features)."""
        projected = self.projections(features, present)
        return Features(projected.squeeze(1) if self.attention is None else self.attention(projected, present))


class DeepSet(_Projected):
    """A network of the sum of transformed features: F = rho(sum_i phi(W_i x_i + b_i)), over the modalities present.

    Zaheer 2017, "Deep sets". phi, shared by all modalities, is ReLU, linear, ReLU; rho is linear, ReLU, linear.
    Cost: M (D features + features^2) + 2 features hidden.

    Pooled (B, D) of each modality; gives (B, features).

    Args:
        hidden: the size of rho's hidden layer.
        dropout: the share of values dropped after rho's hidden layer.
    """

    def __init__(self, inputs: Mapping[str, int], *, hidden: Size = 128, dropout: Share = 0.0, **options: Any) -> None:
        super().__init__(inputs, **options)
        features = self.out_features
        self.phi = nn.Sequential(nn.ReLU(), nn.Linear(features, features), nn.ReLU())
        self.rho = MLP(features, [hidden], features, dropout)

    def forward(self, features: Mapping[str, Features], present: Tensor) -> Features:
        """Fuse features (B, D) with present (B, M) bool to (B, features)."""
        elements = self.phi(self.projections(features, present))
        return Features(self.rho(torch.where(present.unsqueeze(-1), elements, 0).sum(1)))
