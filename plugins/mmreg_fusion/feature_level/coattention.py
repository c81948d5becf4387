"""Parallel co-attention: each modality's tokens are weighed by their affinity to all others."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmreg import FeatureFusion, Features, Outputs
from mmreg.layers import at_least_float32, masked_softmax
from mmreg_fusion.feature_level.common import Size
from mmreg_fusion.feature_level.tokens import TokenEmbedding


class CoAttention(FeatureFusion):
    """Parallel co-attention (Lu 2016), from its image and question to any number of modalities.

    With x_i (T_i, W) the embedded tokens of modality i, an affinity for each pair i < j, and C_ji = C_ij^T:

        C_ij = tanh(x_i A_ij x_j^T)                       (T_i, T_j)
        H_i = tanh(x_i V_i + sum over j of C_ij x_j V_j)  (T_i, W)
        a_i = softmax([H_i w_i, 0])                       (T_i), the last weight left out
        F = [a_1 x_1, ..., a_M x_M]

    for two modalities the paper's formula, but for the further 0 in the softmax: a modality may be left alone, so
    that the weight of a single token (a pooled vector) says something too. An absent modality's part is zero, and it
    adds nothing to the others' H. With a single modality there is no pair, and H is tanh(x V).

    Tokens (B, T, D) of each modality, or pooled (B, D) as one token; gives (B, M W).
    Cost: O(M T W^2 + M^2 (T W^2 + T^2 W)), and M^2 W^2 parameters. Affinities and the sums over them in float32.

    Args:
        inputs: name and token size D of each modality.
        features: size of every token inside (W).
        absent_token: whether an absent modality is represented by a learned token instead of being left out.
    """

    takes: ClassVar[Outputs] = "tokens"

    def __init__(self, inputs: Mapping[str, int], *, features: Size = 64, absent_token: bool = False) -> None:
        super().__init__()
        self.out_features = len(inputs) * features
        self.pairs = list(combinations(range(len(inputs)), 2))
        self.embedding = TokenEmbedding(inputs, features, absent_token)
        # Scaled so that tokens with entries of about 1 have affinities of about 1, where tanh is not saturated.
        self.affinities = nn.ParameterList(torch.randn(features, features) / features for _ in self.pairs)
        self.values = nn.ModuleList(nn.Linear(features, features, bias=False) for _ in inputs)
        self.scores = nn.ModuleList(nn.Linear(features, 1, bias=False) for _ in inputs)

    def forward(self, features: Mapping[str, Features], present: Tensor) -> Features:
        """Fuse to (B, M W)."""
        embedded, masks = self.embedding(features, present)
        tokens = [torch.where(mask.unsqueeze(-1), values, 0) for values, mask in zip(embedded, masks, strict=True)]
        values = [at_least_float32(layer(value)) for layer, value in zip(self.values, tokens, strict=True)]
        hidden = list(values)
        with torch.autocast(present.device.type, enabled=False):
            for (i, j), weight in zip(self.pairs, self.affinities, strict=True):
                affinity = torch.tanh(
                    at_least_float32(tokens[i]) @ at_least_float32(weight) @ at_least_float32(tokens[j]).mT
                )
                hidden[i] = hidden[i] + affinity @ values[j]
                hidden[j] = hidden[j] + affinity.mT @ values[i]
        fused = []
        for layer, states, value, mask in zip(self.scores, hidden, tokens, masks, strict=True):
            scores = F.pad(layer(torch.tanh(states).to(value.dtype)).squeeze(-1), (0, 1))
            weights = masked_softmax(scores, F.pad(mask, (0, 1), value=True))[:, :-1]
            fused.append(torch.einsum("bt,btd->bd", weights, value))
        return Features(pooled=torch.cat(fused, 1))
