"""Multimodal learning with alternating unimodal adaptation (Zhang et al. 2024).

Axes: B batch, H what reaches the head, M modalities.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated

import torch
from annotated_types import Gt, Le
from torch import Tensor, nn
from torch.nn import functional

from mmreg import Balance, Space
from mmreg_balance.heads import TINY


class Mla(Balance):
    """Each modality is trained alone through the head of all, which must not unlearn what it learned of the others.

    Zhang, Yoon, Bansal and Yao, Multimodal Representation Learning by Alternating Unimodal Adaptation, CVPR 2024: one
    modality after the other, L_m = loss(W h_m + b), h_m being its features in a space that all share. Before W moves by
    the gradient G of L_m, this is projected, G P, and P is that of recursive least squares over the mean features of
    those that went before:

        P <- P - k k' / (alpha + mean(h)' k),  k = P mean(h),  from P = 1

    so that W changes where earlier means hardly point. There is no loss of several modalities together.

    Here h_m is what the operator makes of a row that has modality m alone, as it does of one that lacks the others in
    the table: with any operator, operator and head are what is shared. With a plain `concat` each modality has columns
    of W of its own, and nothing is shared but b; `sum`, `average` or `attention` give the paper's common space. These
    are ours:

    - A batch is encoded once, as in the authors' code, but the modalities' gradients are added up for one step of the
      optimizer, where they take a step after each.
    - In use the operator fuses, where the paper adds up what the head says of each modality, weighted by its entropy.
      So that operator and head learn to, they have the fused loss, too, of detached features: encoders learn from their
      own L_m alone, and the gradient of the fused loss is not projected.
    - P is scaled to the Frobenius norm of the identity after each change; the authors' code scales it to 1, which with
      plain SGD is a smaller step for W. Without either, W would stop to learn. alpha stays, where theirs falls from 0.1
      to 0.01 in each epoch. k k' is divided by a number, as least squares have it, where their code has a matrix; and G
      is projected before P takes in the mean of m itself, where their code does so after.

    The modalities' own figures are those of operator and head. Rows that lack a modality do not count for it, and one
    that no row has changes nothing. For any task.

    Cost: operator and head are run once more for each modality, forwards and back, and in use forwards; P has H x H
    numbers.

    Args:
        alpha: how much of the head's gradient stays along the mean features of earlier modalities; of features whose
            mean has a length of 1, alpha / (1 + alpha).
    """

    detaches = True
    shares_head = True
    among_processes = False
    own_loss = 1.0
    projection: Tensor

    def __init__(
        self,
        inputs: Mapping[str, int],
        *,
        num_logits: int,
        num_outputs: int,
        space: Space,
        head_size: int,
        alpha: Annotated[float, Gt(0), Le(1e6)] = 0.1,
    ) -> None:
        super().__init__()
        self.alpha = alpha
        self.register_buffer("projection", torch.eye(head_size))

    def shared_logits(self, fused: Mapping[str, Tensor], present: Tensor, head: nn.Linear) -> Mapping[str, Tensor]:
        """The head's logits of each modality alone; in training they move its weight by a projected gradient."""
        if not self.training:
            return super().shared_logits(fused, present, head)
        logits = {}
        projection = self.projection.clone()  # the buffer moves before the way back
        for column, (name, features) in enumerate(fused.items()):
            logits[name] = _projected_linear(features, head, projection)
            projection = narrowed(projection, features.detach(), present[:, column], self.alpha)
        self.projection.copy_(projection)
        return logits


def _projected_linear(features: Tensor, head: nn.Linear, projection: Tensor) -> Tensor:
    """What a layer gives, whose weight then learns by the gradient times the projection (H, H)."""
    weight = head.weight.view_as(head.weight)
    if weight.requires_grad:
        weight.register_hook(lambda gradient: gradient @ projection.to(gradient.dtype))  # type: ignore[no-untyped-call]
    return functional.linear(features, weight, head.bias)


@torch.no_grad()
def narrowed(projection: Tensor, features: Tensor, present: Tensor, alpha: float) -> Tensor:
    """The projection (H, H) that also leaves out the mean of the features (B, H) of the rows (B,) that are present.

    Products are taken as sums, which autocast leaves in the precision of the projection.
    """
    rows = present.sum()
    mean = torch.where(present[:, None], features, 0).to(projection.dtype).sum(0) / rows.clamp(min=1)
    along = (projection * mean).sum(1)
    left = projection - along[:, None] * along / (alpha + (mean * along).sum().clamp(min=0))
    left = left * (math.sqrt(len(left)) / torch.linalg.matrix_norm(left).clamp(min=TINY))
    return torch.where(rows > 0, left, projection)
