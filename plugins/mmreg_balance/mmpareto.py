"""Pareto integration of the gradients of the joint and of each modality's own loss (Wei and Hu 2024)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import torch
from annotated_types import Ge, Le
from torch import Tensor

from mmreg import Balance, EncoderGradients
from mmreg_balance.heads import TINY, OwnHeads

VANISHED = 1e-5
"""The length of what two gradients come to, beside their own, that is nothing but rounding."""


class MmPareto(OwnHeads):
    """A direction for each encoder that makes both the joint loss and that of its modality smaller.

    Wei and Hu, MMPareto: Boosting Multimodal Learning with Innocent Unimodal Assistance, ICML 2024: with own losses as
    by `own_losses`, g the gradient of the joint loss on an encoder's weights and u that of its modality's own loss, the
    weights move along

        h = 2 a g + 2 (1 - a) u,  a = 1/2 where g u >= 0, else that which makes |a g + (1 - a) u| smallest,
                                  a = clip((u - g) u / |g - u|^2, 0, 1),

    times gamma |g + u| / |h|: at conflicts, where h is the shorter one, the direction changes and not the length of the
    step, whose noise is what generalises. Where g and u are opposite to each other, nothing suits both, and h is next
    to nothing: it then stays as short as it is. The authors' code takes the two lengths weight by weight; here they are
    of all of an encoder's weights.

    Cost: a linear layer a modality, and a second way back through the encoders. They are not compiled with it.

    Args:
        gamma: by what the gradients are multiplied.
    """

    spaces = Balance.spaces | {"several"}
    detached = False
    modulates = True
    own_gradients = True

    def __init__(
        self,
        inputs: Mapping[str, int],
        *,
        gamma: Annotated[float, Ge(0), Le(100)] = 1.5,
        **options: Any,
    ) -> None:
        super().__init__(inputs, **options)
        self.gamma = gamma

    def modulate(self, gradients: Mapping[str, EncoderGradients], sums: Mapping[str, Tensor]) -> None:
        """Turn the gradients of each encoder."""
        for each in gradients.values():
            if not each.whole:
                continue
            joint = [whole - own for whole, own in zip(each.whole, each.own, strict=True)]
            share = joint_share(_dot(joint, joint), _dot(joint, each.own), _dot(each.own, each.own))
            turned = [2 * share * g + 2 * (1 - share) * u for g, u in zip(joint, each.own, strict=True)]
            length, before = _dot(turned, turned).sqrt(), _dot(each.whole, each.whole).sqrt()
            whole = _dot(joint, joint).sqrt() + _dot(each.own, each.own).sqrt()
            stretch = torch.where(length > VANISHED * whole, before / length.clamp(min=TINY), 1)
            for gradient, turn in zip(each.whole, turned, strict=True):
                gradient.copy_(self.gamma * stretch * turn)


def joint_share(joint: Tensor, both: Tensor, own: Tensor) -> Tensor:
    """The share () of the joint gradient, from its square, its product with the own one, and that one's square."""
    least = ((own - both) / (joint - 2 * both + own).clamp(min=TINY)).clamp(0, 1)
    return torch.where(both >= 0, torch.full_like(both, 0.5), least)


def _dot(one: Sequence[Tensor], other: Sequence[Tensor]) -> Tensor:
    return torch.stack([(a * b).sum() for a, b in zip(one, other, strict=True)]).sum()
