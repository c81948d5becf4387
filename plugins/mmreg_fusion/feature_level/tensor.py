"""Products of all modalities at once: the full outer product, its low-rank form, and multiplicative interactions.

Products are computed in float32 at least and given back in the features' precision; a number beyond its range becomes
its greatest one.

Axes: B batch, D features, M modalities.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from mmreg import FeatureFusion, Features
from mmreg.layers import at_least_float32
from mmreg_fusion.feature_level.common import (
    Factors,
    PairMaps,
    Projections,
    Share,
    Size,
    check_size,
    input_vectors,
    pooled,
    product,
)
from mmreg_fusion.precision import common_dtype, narrow

MAX_PRODUCT = 500_000
"""The greatest number of numbers a row of the full tensor product (128 MB for 64 rows in float32)."""


class TensorFusion(FeatureFusion):
    """The outer product of the features with ones before them: F = [1; x_1] (x) ... (x) [1; x_n], flattened.

    Zadeh 2017, "Tensor fusion network for multimodal sentiment analysis". The last modality's index runs fastest. An
    absent modality is [1; 0]: products without it remain. With one modality, F = [1; x_1].
    Cost: (D + 1)^M numbers a row, refused over 500,000; times features with that option.

    Pooled (B, D) of each modality; gives (B, (D_1 + 1) ... (D_M + 1)), or with that option (B, features).

    Args:
        features: the size to which the product is mapped linearly; None for the product itself.
        project: the width to which each modality is projected before; None to take the features as they are.
        dropout: the share of values dropped of the product.

    Raises:
        OptionError: the product would be too large.
    """

    def __init__(
        self,
        inputs: Mapping[str, int],
        *,
        features: Size | None = None,
        project: Size | None = None,
        dropout: Share = 0.0,
    ) -> None:
        super().__init__()
        sizes = list(inputs.values()) if project is None else [project] * len(inputs)
        size = prod(size + 1 for size in sizes)
        check_size(
            f"the tensor product of vectors of {', '.join(map(str, sizes))}",
            size,
            MAX_PRODUCT,
            "set a smaller project, or use low_rank, the same map with low-rank factors",
        )
        self.projections = Projections(inputs, project) if project is not None else None
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(size, features) if features is not None else None
        self.out_features = size if features is None else features

    def forward(self, features: Mapping[str, Features], present: Tensor) -> Features:
        """Fuse features (B, D) with present (B, M) bool to (B, out_features)."""
        vectors = input_vectors(self.projections, features, present)
        first, *others = (nn.functional.pad(at_least_float32(vector), (1, 0), value=1.0) for vector in vectors)
        fused = first
        for vector in others:
            fused = (fused.unsqueeze(2) * vector.unsqueeze(1)).flatten(1)
        fused = self.dropout(fused)
        if self.output is not None:
            # Autocast would put the products into half precision again.
            with torch.autocast(fused.device.type, enabled=False):
                fused = nn.functional.linear(
                    fused, at_least_float32(self.output.weight), at_least_float32(self.output.bias)
                )
        return Features(narrow(fused, common_dtype(vectors)))


class LowRank(FeatureFusion):
    """The full tensor product and a linear map of it, with low-rank factors, so that the product is never formed.

    F = sum_r w_r prod_i (W_ri x_i + b_ri) + c, elementwise: a tensor sum_r w_r (x)_i [W_ri, b_ri] applied to the outer
    product of all [x_i; 1]. Liu 2018, "Efficient low-rank multimodal fusion with modality-specific factors". An absent
    modality is [0; 1]: its factor is b_ri. Cost: M D rank features.

    Pooled (B, D) of each modality; gives (B, features).

    Args:
        features: the size of the result.
        rank: the number of terms; with enough of them, any linear map of the full tensor product.
    """

    def __init__(self, inputs: Mapping[str, int], *, features: Size = 128, rank: Size = 4) -> None:
        super().__init__()
        self.factors = Factors(list(inputs.values()), rank * features)
        self.weights = nn.Parameter(torch.full((rank,), rank**-0.5))
        self.bias = nn.Parameter(torch.zeros(features))
        self.out_features = features

    def forward(self, features: Mapping[str, Features], present: Tensor) -> Features:
        """Fuse features (B, D) with present (B, M) bool to (B, features)."""
        factors = self.factors(pooled(features, present))
        terms = product(at_least_float32(factors)).view(present.shape[0], -1, self.out_features)
        fused = (terms * at_least_float32(self.weights).unsqueeze(1)).sum(1) + at_least_float32(self.bias)
        return Features(narrow(fused, factors.dtype))


class Multiplicative(FeatureFusion):
    """Multiplicative interactions: every modality is mapped with weights that the others determine.

    F = sum over pairs of their interaction + sum_i U_i x_i + b, where that of x_i and x_j is, for k in 1..features,
    matrix: x_i^T W_ijk x_j; vector: (A_j x_j)_k (V_i x_i)_k + (A_i x_i)_k (V_j x_j)_k; scalar: the same with one row
    a_i for the matrix A_i. Jayakumar 2020, "Multiplicative interactions and where to find them": the general form (the
    map of `bilinear`), and those whose generated matrix is diagonal or a multiple of the identity, taken both ways as
    the modalities have no order. An absent modality is zeros: its pairs vanish.
    Cost: M^2 / 2 D^2 features (matrix, as the weights, which are refused over 2^27), 3 M D features (vector), 2 M D
    features (scalar).

    Pooled (B, D) of each modality; gives (B, features).

    Args:
        features: the size of the result.
        form: what one modality determines of the other's map: all of its matrix, a factor for each feature, or one
            factor.
    """

    min_inputs: ClassVar[int] = 2

    def __init__(
        self,
        inputs: Mapping[str, int],
        *,
        features: Size = 128,
        form: Literal["matrix", "vector", "scalar"] = "matrix",
    ) -> None:
        super().__init__()
        self.pairs = PairMaps(list(inputs.values()), features) if form == "matrix" else None
        self.scales = None
        self.values = None
        if form != "matrix":
            self.scales = Projections(inputs, features if form == "vector" else 1, bias=False)
            self.values = Projections(inputs, features, bias=False)
        self.linear = nn.Linear(sum(inputs.values()), features)
        self.out_features = features

    def forward(self, features: Mapping[str, Features], present: Tensor) -> Features:
        """Fuse features (B, D) with present (B, M) bool to (B, features)."""
        vectors = pooled(features, present)
        linear = self.linear(torch.cat(vectors, 1))
        if self.pairs is not None:
            interaction = self.pairs(vectors)
        else:
            assert self.scales is not None
            assert self.values is not None
            scales = at_least_float32(self.scales(features, present))
            others = scales.sum(1, keepdim=True) - scales
            interaction = (others * at_least_float32(self.values(features, present))).sum(1)
        return Features(narrow(at_least_float32(linear) + interaction, linear.dtype))
