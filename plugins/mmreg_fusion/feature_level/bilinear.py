"""Bilinear pooling: products of the modalities' vectors, pair by pair, in full, sketched or factorised.

All of them are bilinear in the vectors with a one appended, [x; 1], so that they hold each modality's own terms beside
the products. An absent modality is [0; 1]: of its pairs, the other's own term is left, and pairs of two absent ones are
left out. With one modality alone the operators come down to a map of its vector: its partner is the constant one.
With more than two, products are summed over all pairs.

Products, Fourier transforms and norms are computed in float32 at least, and given back in the features' precision.

Axes: B batch, D features, M modalities, P = M (M - 1) / 2 pairs.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mmreg import FeatureFusion, Features
from mmreg.errors import OptionError
from mmreg.layers import at_least_float32
from mmreg_fusion.feature_level.common import (
    Factors,
    PairMaps,
    Projections,
    Share,
    Size,
    input_vectors,
    pair_products,
    pooled,
    power_normalize,
    random_signs_,
)
from mmreg_fusion.precision import common_dtype, narrow


class Bilinear(FeatureFusion):
    """A full bilinear map of every pair: F_k = sum_{i<j} x_i^T W_ijk x_j + sum_i u_ik . x_i + b_k.

    The bilinear pooling of Tenenbaum 2000, "Separating style and content with bilinear models", with the linear
    terms that its vectors with a one appended give. Cost: P D^2 features, in weights as well; refused over 2^27.

    Pooled (B, D) of each modality; gives (B, features).

    Args:
        features: the size of the result.
        project: the width to which each modality is projected before; None to take the features as they are.
    """

    def __init__(self, inputs: Mapping[str, int], *, features: Size = 128, project: Size | None = None) -> None:
        super().__init__()
        self.projections = Projections(inputs, project) if project is not None else None
        sizes = list(inputs.values()) if project is None else [project] * len(inputs)
        self.pairs = PairMaps(sizes, features)
        self.linear = nn.Linear(sum(sizes), features)
        self.out_features = features

    def forward(self, features: Mapping[str, Features], present: Tensor) -> Features:
        """Fuse features (B, D) with present (B, M) bool to (B, features)."""
        vectors = input_vectors(self.projections, features, present)
        linear = self.linear(torch.cat(vectors, 1))
        return Features(narrow(at_least_float32(linear) + self.pairs(vectors), linear.dtype))


class MCB(FeatureFusion):
    """Multimodal compact bilinear pooling: the count sketch of each pair's outer product, without forming it.

    F = normalize(sum_{i<j} ifft(fft(s_i) * fft(s_j))), s_i the count sketch of [1; x_i] to `features` numbers: number
    d of x_i is added, with the random sign g_i(d), to place h_i(d), a random one, and the one to place 0. The circular
    convolution of two sketches is the sketch of their outer product. `normalize` is the signed square root and the L2
    norm of the paper, the latter times sqrt(features). Fukui 2016, "Multimodal compact bilinear pooling for visual
    question answering and visual grounding". g and h are drawn once and kept as buffers; there is no parameter.
    Cost: M (D + features log features) + P features.

    Pooled (B, D) of each modality; gives (B, features).

    Args:
        features: the size of the sketches and of the result; the more, the fewer products share a place.
    """

    def __init__(self, inputs: Mapping[str, int], *, features: Size = 1024) -> None:
        super().__init__()
        for index, size in enumerate(inputs.values()):
            self.register_buffer(f"places_{index}", torch.randint(features, (size,)))
            self.register_buffer(f"signs_{index}", random_signs_(torch.empty(size)))
        self.out_features = features

    def sketch(self, index: int, vectors: Tensor) -> Tensor:
        """The count sketch (B, features) of one modality's vectors (B, D), without the one."""
        signed = at_least_float32(vectors) * at_least_float32(self.get_buffer(f"signs_{index}"))
        places = self.get_buffer(f"places_{index}").expand(vectors.shape[0], -1)
        return signed.new_zeros(vectors.shape[0], self.out_features).scatter_add(1, places, signed)

    def forward(self, features: Mapping[str, Features], present: Tensor) -> Features:
        """Fuse features (B, D) with present (B, M) bool to (B, features)."""
        vectors = pooled(features, present)
        sketches = torch.stack([self.sketch(index, vector) for index, vector in enumerate(vectors)], 1)
        spectra = 1 + torch.fft.rfft(sketches)  # a one at place 0 has the spectrum one
        product = torch.fft.irfft(pair_products(spectra, present).sum(1), n=self.out_features)
        return Features(narrow(power_normalize(product), common_dtype(vectors)))


class MLB(FeatureFusion):
    """Low-rank bilinear pooling: F = P sum_{i<j} (tanh(U_i x_i + b_i) * tanh(U_j x_j + b_j)) + c.

    Kim 2017, "Hadamard product for low-rank bilinear pooling". Cost: M D rank + P rank + rank features.

    Pooled (B, D) of each modality; gives (B, features).

    Args:
        features: the size of the result.
        rank: the width of the factors, the greatest rank of the map of each feature.
        dropout: the share of values dropped of the products.
    """

    def __init__(
        self, inputs: Mapping[str, int], *, features: Size = 128, rank: Size = 256, dropout: Share = 0.0
    ) -> None:
        super().__init__()
        self.factors = Factors(list(inputs.values()), rank)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(rank, features)
        self.out_features = features

    def forward(self, features: Mapping[str, Features], present: Tensor) -> Features:
        """Fuse features (B, D) with present (B, M) bool to (B, features)."""
        factors = self.factors(pooled(features, present))
        products = pair_products(torch.tanh(at_least_float32(factors)), present).sum(1)
        return Features(self.output(self.dropout(narrow(products, factors.dtype))))


class MFH(FeatureFusion):
    """Factorised bilinear pooling of higher order: a cascade of `MFB` blocks, their results side by side.

    e_1 = p_1 and e_q = e_(q-1) * p_q, with p_q = dropout(f_qi * f_qj) for each pair and f_qi = U_qi x_i + b_qi;
    z_q = normalize(sum over pairs and each `rank` successive numbers of e_q); F = [z_1, ..., z_order].
    `normalize` is the signed square root and the L2 norm of the paper, the latter times sqrt(features). Yu 2018,
    "Beyond bilinear: generalized multimodal factorized high-order pooling for visual question answering".
    Cost: order (M D + P) rank features.

    Pooled (B, D) of each modality; gives (B, order features).

    Args:
        features: the size of each block's result.
        rank: how many products are summed to one number.
        order: how many blocks.
        dropout: the share of values dropped of the products.
    """

    def __init__(
        self,
        inputs: Mapping[str, int],
        *,
        features: Size = 128,
        rank: Size = 5,
        order: Size = 2,
        dropout: Share = 0.1,
    ) -> None:
        super().__init__()
        self.order, self.rank = order, rank
        self.factors = Factors(list(inputs.values()), order * features * rank)
        self.dropout = nn.Dropout(dropout)
        self.out_features = order * features

    def forward(self, features: Mapping[str, Features], present: Tensor) -> Features:
        """Fuse features (B, D) with present (B, M) bool to (B, order features)."""
        factors = self.factors(pooled(features, present))
        products = self.dropout(pair_products(at_least_float32(factors), present))
        factor, *further = products.chunk(self.order, -1)
        expanded = [factor]
        for factor in further:
            expanded.append(expanded[-1] * factor)
        blocks = torch.stack(expanded, 2).sum(1).view(present.shape[0], self.order, -1, self.rank).sum(-1)
        return Features(narrow(power_normalize(blocks).flatten(1), factors.dtype))


class MFB(MFH):
    """Factorised bilinear pooling: F = normalize(sum over pairs and each `rank` numbers of dropout(f_i * f_j)).

    f_i = U_i x_i + b_i has rank features numbers, of which each `rank` successive ones are summed. `normalize` is the
    signed square root and the L2 norm of the paper, the latter times sqrt(features). Yu 2017, "Multi-modal factorized
    bilinear pooling with co-attention learning for visual question answering". Cost: (M D + P) rank features.

    Pooled (B, D) of each modality; gives (B, features).

    Args:
        features: the size of the result.
        rank: how many products are summed to one number, the rank of the map of each feature.
        dropout: the share of values dropped of the products.
    """

    def __init__(
        self, inputs: Mapping[str, int], *, features: Size = 128, rank: Size = 5, dropout: Share = 0.1
    ) -> None:
        super().__init__(inputs, features=features, rank=rank, order=1, dropout=dropout)


class Mutan(FeatureFusion):
    """Tucker decomposition of the bilinear map with a core of low rank, for every pair.

    F = O z + c, z = sum_{i<j} sum_r (M_ri q_i + m_ri) * (M_rj q_j + m_rj) / sqrt(rank), q_i = tanh(W_i x_i + b_i). The
    core of a pair is T[a, b, k] = sum_r [M_ri; m_ri][k, a] [M_rj; m_rj][k, b]. Ben-Younes 2017, "MUTAN: multimodal
    Tucker fusion for visual question answering". Cost: M (D width + rank width^2) + P rank width + width features.

    Pooled (B, D) of each modality; gives (B, features).

    Args:
        features: the size of the result.
        width: the size of each q_i and of z, the core's three sides.
        rank: the rank of each slice of the core.
        dropout: the share of values dropped of each q_i.
    """

    def __init__(
        self,
        inputs: Mapping[str, int],
        *,
        features: Size = 128,
        width: Size = 64,
        rank: Size = 10,
        dropout: Share = 0.0,
    ) -> None:
        super().__init__()
        self.rank = rank
        self.projections = Projections(inputs, width)
        self.dropout = nn.Dropout(dropout)
        self.factors = Factors([width] * len(inputs), rank * width)
        self.output = nn.Linear(width, features)
        self.out_features = features

    def forward(self, features: Mapping[str, Features], present: Tensor) -> Features:
        """Fuse features (B, D) with present (B, M) bool to (B, features)."""
        reduced = self.dropout(torch.tanh(self.projections(features, present)))
        factors = self.factors(reduced.unbind(1))
        products = pair_products(at_least_float32(factors), present).sum(1)
        core = products.view(present.shape[0], self.rank, -1).sum(1) * self.rank**-0.5
        return Features(self.output(narrow(core, factors.dtype)))


class Block(FeatureFusion):
    """Block-term decomposition of the bilinear map: a block-diagonal core whose blocks have low rank, for every pair.

    q_i = W_i x_i + b_i is cut into `chunks` parts q_ic; z_c = normalize(sum_{i<j} sum_r (M_rci q_ic + m_rci) *
    (M_rcj q_jc + m_rcj)); F = O [z_1, ..., z_chunks] + c. `normalize` is the signed square root and the L2 norm of the
    authors' code, the latter times the root of the chunk's size. Ben-Younes 2019, "BLOCK: bilinear superdiagonal fusion
    for visual question answering and visual relationship detection".
    Cost: M (D width + rank width^2 / chunks) + P rank width + width features.

    Pooled (B, D) of each modality; gives (B, features).

    Args:
        features: the size of the result.
        width: the size of each q_i, a multiple of chunks.
        chunks: the number of blocks.
        rank: the rank of each slice of a block.
        dropout: the share of values dropped of each q_i.

    Raises:
        OptionError: chunks does not divide width.
    """

    def __init__(
        self,
        inputs: Mapping[str, int],
        *,
        features: Size = 128,
        width: Size = 128,
        chunks: Size = 8,
        rank: Size = 8,
        dropout: Share = 0.0,
    ) -> None:
        super().__init__()
        if width % chunks:
            raise OptionError(f"width {width} cannot be cut into {chunks} chunks: set width to a multiple of chunks")
        size = width // chunks
        self.chunks, self.rank = chunks, rank
        self.projections = Projections(inputs, width)
        self.dropout = nn.Dropout(dropout)
        bound = size**-0.5  # as torch.nn.Linear; the biases as in Factors
        self.weight = nn.Parameter(torch.empty(len(inputs), chunks, size, rank * size).uniform_(-bound, bound))
        self.bias = nn.Parameter(random_signs_(torch.empty(len(inputs), chunks, rank * size)))
        self.output = nn.Linear(width, features)
        self.out_features = features

    def forward(self, features: Mapping[str, Features], present: Tensor) -> Features:
        """Fuse features (B, D) with present (B, M) bool to (B, features)."""
        reduced = self.dropout(self.projections(features, present))
        chunks = reduced.view(*reduced.shape[:2], self.chunks, -1)
        factors = at_least_float32(torch.einsum("bmcs,mcsr->bmcr", chunks, self.weight)) + at_least_float32(self.bias)
        products = pair_products(factors, present).sum(1)
        blocks = power_normalize(products.view(present.shape[0], self.chunks, self.rank, -1).sum(2))
        return Features(self.output(narrow(blocks.flatten(1), reduced.dtype)))
