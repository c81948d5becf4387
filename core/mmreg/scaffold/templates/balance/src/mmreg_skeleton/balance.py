"""A balance: how modalities that are fused by their features are trained, so that each of them learns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Le
from torch import Tensor

from mmreg import Balance, EncoderGradients, Space


class SkeletonBalance(Balance):
    """The gradients of all encoders brought towards the same length, which is the mean of theirs.

    Args:
        strength: how far: 0 leaves them as they are, with 1 all are of one length.
    """

    modulates: ClassVar[bool] = True

    def __init__(
        self,
        inputs: Mapping[str, int],
        *,
        num_logits: int,
        num_outputs: int,
        space: Space,
        strength: Annotated[float, Ge(0), Le(1)] = 1.0,
    ) -> None:
        super().__init__()
        self.strength = strength

    def modulate(self, gradients: Mapping[str, EncoderGradients], sums: Mapping[str, Tensor]) -> None:
        """Scale each encoder's gradients, in place; what none of a step's rows moves stays as it is."""
        trained = [each.whole for each in gradients.values() if each.whole]
        if not trained:
            return
        lengths = torch.stack([torch.stack([one.square().sum() for one in whole]).sum().sqrt() for whole in trained])
        moved = lengths > 0
        mean = lengths.sum() / moved.sum().clamp(min=1)
        factors = torch.where(moved, (mean / lengths.clamp(min=1e-30)) ** self.strength, 1)
        for whole, factor in zip(trained, factors, strict=True):
            for gradient in whole:
                gradient.mul_(factor.to(gradient.dtype))
