"""What the feature-level operators share: ignoring absent ones, projecting each, products that do not overflow.

Axes: B batch, D features, M modalities, P = M (M - 1) / 2 pairs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import reduce
from itertools import combinations
from typing import Annotated

import torch
from annotated_types import Ge, Le, Lt
from torch import Tensor, nn

from mmreg import Features
from mmreg.errors import OptionError
from mmreg.layers import at_least_float32

Size = Annotated[int, Ge(1)]
"""An option that counts something."""
Depth = Annotated[int, Ge(1), Le(1000)]
"""An option that counts layers: many small ones fill the memory as well as a large one, but slowly."""
Share = Annotated[float, Ge(0), Lt(1)]
"""An option that is a share, such as that of dropped values."""

MAX_WEIGHTS = 2**27
"""The greatest number of weights of a full bilinear map (512 MiB in float32)."""


def map_each(layers: Iterable[nn.Module], vectors: Iterable[Tensor]) -> Tensor:
    """Each modality's vectors (B, D) through its own layer, side by side: (B, M, D')."""
    return torch.stack([layer(vector) for layer, vector in zip(layers, vectors, strict=True)], 1)


def pooled(features: Mapping[str, Features], present: Tensor) -> list[Tensor]:
    """Each modality's (B, D) vectors in order, those of absent rows replaced by zeros."""
    vectors = []
    for index, feature in enumerate(features.values()):
        assert feature.pooled is not None
        vectors.append(torch.where(present[:, index, None], feature.pooled, 0))
    return vectors


class Projections(nn.Module):
    """A linear map of each modality's vector to one width.

    Args:
        inputs: name and feature size D of each modality.
        features: the common width.
        bias: whether the maps have a bias.
    """

    def __init__(self, inputs: Mapping[str, int], features: int, bias: bool = True) -> None:
        super().__init__()
        self.maps = nn.ModuleList(nn.Linear(size, features, bias=bias) for size in inputs.values())

    def forward(self, features: Mapping[str, Features], present: Tensor) -> Tensor:
        """Project to (B, M, features); absent rows come out as zeros, whatever they held."""
        return torch.where(present.unsqueeze(-1), map_each(self.maps, pooled(features, present)), 0)


def input_vectors(projections: Projections | None, features: Mapping[str, Features], present: Tensor) -> list[Tensor]:
    """Each modality's vectors, absent rows as zeros: its projections (B, features), or without any (B, D) as it is."""
    if projections is None:
        return pooled(features, present)
    return list(projections(features, present).unbind(1))


class Factors(nn.Module):
    """An affine map W x + b of each modality's vector, to be multiplied with those of the others.

    Linear in [x; 1], so that a product of factors holds terms of every degree: each modality alone, each pair, and so
    on. An absent modality (a zero vector, [0; 1]) leaves its b, by which the others' terms pass. The weights start as
    those of `torch.nn.Linear` and the biases as random signs: no degree starts out drowned by another, for any M.

    Args:
        sizes: D of each modality.
        features: the common width.
    """

    def __init__(self, sizes: Sequence[int], features: int) -> None:
        super().__init__()
        maps = [nn.Linear(size, features) for size in sizes]
        for layer in maps:
            random_signs_(layer.bias)
        self.maps = nn.ModuleList(maps)

    def forward(self, vectors: Sequence[Tensor]) -> Tensor:
        """Map M tensors (B, D), zero where absent, to (B, M, features)."""
        return map_each(self.maps, vectors)


class PairMaps(nn.Module):
    """A full bilinear map of every pair, summed: sum_{i<j} x_i^T W_ijk x_j for each output k.

    Args:
        sizes: D of each modality.
        features: how many outputs.

    Raises:
        OptionError: more than `MAX_WEIGHTS` weights.
    """

    def __init__(self, sizes: Sequence[int], features: int) -> None:
        super().__init__()
        weights = features * sum(left * right for left, right in combinations(sizes, 2))
        check_size(
            f"a full bilinear map of vectors of {', '.join(map(str, sizes))}",
            weights,
            MAX_WEIGHTS,
            "set project or a smaller features, or use mlb, a low-rank one",
        )
        self.features = features
        self.weights = nn.ParameterList()
        for left, right in combinations(sizes, 2):
            # Uniform with variance 1 / (3 D_i D_j): the products get the variance that a linear layer starts with.
            bound = (left * right) ** -0.5
            self.weights.append(nn.Parameter(torch.empty(features, right, left).uniform_(-bound, bound)))

    def forward(self, vectors: Sequence[Tensor]) -> Tensor | int:
        """Map M tensors (B, D), zero where absent, to (B, features) in float32 at least; 0 if there is no pair."""
        total: Tensor | int = 0
        for weight, (left, right) in zip(self.weights, combinations(vectors, 2), strict=True):
            maps = nn.functional.linear(left, weight.flatten(0, 1)).view(left.shape[0], self.features, -1)
            total = total + (at_least_float32(maps) * at_least_float32(right).unsqueeze(1)).sum(-1)
        return total


def random_signs_(values: Tensor) -> Tensor:
    """Fill a tensor with -1 and 1, each with probability one half."""
    with torch.no_grad():
        return values.bernoulli_(0.5).mul_(2).sub_(1)


def product(factors: Tensor) -> Tensor:
    """The product over M of (B, M, ...); unlike that of `torch.prod`, its backward pass never waits for a device."""
    return reduce(torch.mul, factors.unbind(1))


def pair_products(factors: Tensor, present: Tensor) -> Tensor:
    """The elementwise products of all pairs of modalities.

    Args:
        factors: (B, M, ...), of an absent modality what stands for the appended one.
        present: (B, M) bool.

    Returns:
        (B, P, ...), zero for pairs of two absent ones; the factors themselves for M = 1.
    """
    if factors.shape[1] == 1:
        return factors
    products = torch.stack([left * right for left, right in combinations(factors.unbind(1), 2)], 1)
    either = torch.stack([left | right for left, right in combinations(present.unbind(1), 2)], 1)
    return torch.where(either.view(*either.shape, *[1] * (products.dim() - 2)), products, 0)


def power_normalize(values: Tensor) -> Tensor:
    """Signed square root, then unit length times sqrt(D): (..., D) to vectors with a mean square of one.

    As in Fukui 2016 but for the factor sqrt(D), which spares the next layer growing its weights. The root is
    x / sqrt(|x| + 1e-4): unlike the plain one it has a finite slope at zero.
    """
    roots = values * torch.rsqrt(values.abs() + 1e-4)
    return roots * torch.rsqrt(roots.square().mean(-1, keepdim=True) + 1e-6)


def check_size(what: str, size: int, limit: int, advice: str) -> None:
    """Refuse what would take too much memory, before anything is allocated.

    Raises:
        OptionError: `size` is over `limit`.
    """
    if size > limit:
        raise OptionError(f"{what} would have {size:,} numbers, more than the limit of {limit:,}: {advice}")
