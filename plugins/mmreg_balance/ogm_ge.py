"""On-the-fly gradient modulation with generalisation enhancement (Peng et al. 2022).

Axes: M modalities.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import torch
from annotated_types import Ge, Le
from torch import Tensor

from mmreg import BalanceBatch, EncoderGradients, Observed
from mmreg_balance.heads import OwnHeads, confidences, discrepancies


class OgmGe(OwnHeads):
    """Smaller gradients for the encoder of the stronger modality, and noise on those of all.

    Peng, Wei, Deng, Wang and Hu, Balanced Multimodal Learning via On-the-fly Gradient Modulation, CVPR 2022: with s_m
    the mean over a step's rows of the probability that modality m gives the right class, and rho_m = s_m / (mean of the
    others' s), the gradients g of m's encoder become

        k_m g + h,  k_m = 1 - tanh(alpha rho_m) where rho_m > 1, else 1;  h ~ N(0, std(g)^2)

    The paper reads s_m off the parts of a linear head over concatenated features, which other operators do not have.
    Here it is that of a linear head of m's own, which learns from detached features: the encoders do not notice it.
    Where a target is no class, the probability is exp(-loss). As in the authors' code, std(g) is that of the numbers in
    a weight's gradient; they add h to convolutions only, here it goes to every weight of two axes or more. A modality
    that none of the rows has counts for nothing.

    Cost: a linear layer a modality, and a pass over the encoders' gradients.

    Args:
        alpha: how much smaller the gradients become; the paper takes 0.1 to 0.8.
        noise: whether to add h; without it the method is called OGM.
    """

    observes = True
    modulates = True

    def __init__(
        self,
        inputs: Mapping[str, int],
        *,
        alpha: Annotated[float, Ge(0), Le(100)] = 0.3,
        noise: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(inputs, **options)
        self.alpha, self.noise = alpha, noise

    def observe(self, batch: BalanceBatch) -> Observed:
        """How sure each modality is of a batch's targets."""
        sure, rows = confidences(batch)
        return Observed(sums={"sure": sure, "rows": rows})

    def modulate(self, gradients: Mapping[str, EncoderGradients], sums: Mapping[str, Tensor]) -> None:
        """Make the gradients of the surer modalities smaller, and add the noise."""
        ratios = discrepancies(sums["sure"], sums["rows"])
        factors = torch.where(ratios > 1, 1 - torch.tanh(self.alpha * ratios), 1)
        for factor, own in zip(factors, gradients.values(), strict=True):
            for gradient in own.whole:
                noise = None
                if self.noise and gradient.ndim > 1 and gradient.numel() > 1:
                    noise = torch.randn_like(gradient) * gradient.std()
                gradient.mul_(factor.to(gradient.dtype))
                if noise is not None:
                    gradient.add_(noise)
