"""The weighted geometric mean of several models' probabilities.

Axes: B batch, K classes, M parts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

import torch
from annotated_types import Gt
from torch import Tensor

from mmreg import Fused, ModelFusion, Space
from mmreg.errors import OptionError

LOWEST = -1e30
"""Stands for the logarithm of zero: a thousand of it are still finite in float32."""


class Geometric(ModelFusion):
    """The geometric mean of the parts' probabilities: p_k = prod_m p_mk^(w_m / w) / Z, w the sum of all w_m.

    The "logarithmic opinion pool" of Genest and Zidek 1986, over the parts that a row has; of independent labels it is
    the weighted mean of their log-odds. Unlike with a product, parts that agree make it no surer than they are.

    Args:
        weights: the weight of each part by its name; 1 for those not named.
    """

    spaces: ClassVar[frozenset[Space]] = frozenset({"log_probabilities", "log_odds"})

    def __init__(
        self,
        inputs: Mapping[str, int],
        *,
        num_outputs: int,
        space: Space,
        weights: dict[str, Annotated[float, Gt(0)]] | None = None,
    ) -> None:
        super().__init__()
        if space not in self.spaces:
            raise OptionError(f"geometric combines probabilities, found {space}; use mean or weighted")
        given = weights or {}
        if unknown := sorted(set(given) - set(inputs)):
            raise OptionError(f"weights: there is no part {', '.join(unknown)} (there are {', '.join(inputs)})")
        self.space = space
        self.names = tuple(inputs)
        self.weights: Tensor
        exponents = torch.tensor([float(given.get(name, 1)) for name in inputs])
        self.register_buffer("weights", exponents, persistent=False)  # options bring them back

    def forward(
        self, scores: Mapping[str, Tensor], present: Tensor, features: Mapping[str, Tensor] | None = None
    ) -> Fused:
        """Combine M times (B, K) with present (B, M) to (B, K), in float32 at least."""
        stacked = torch.stack([scores[name] for name in self.names], 1)
        stacked = stacked if stacked.dtype == torch.float64 else stacked.float()
        # What is absent may hold anything: it is replaced, as zero times infinity is no number.
        stacked = torch.where(present.unsqueeze(-1), stacked, 0).clamp(LOWEST, -LOWEST)
        weights = torch.where(present, self.weights.to(stacked), 0)
        weights = weights / weights.sum(1, keepdim=True).clamp(min=1e-30)  # a row may lack all of them
        mean = (weights.unsqueeze(-1) * stacked).sum(1)
        return Fused(mean.log_softmax(-1) if self.space == "log_probabilities" else mean)
