"""InfoNCE: the loss by which the two sides of a pair come near each other, and away from those of other rows.

Axes: B batch, D features.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

LOWEST, HIGHEST = 0.01, 1.0
"""The bounds of the temperature."""
PART = 2**22
"""Similarities that are computed at a time: 16 MiB in float32."""


class Temperature(nn.Module):
    """A learned number by which similarities are divided, always between 0.01 and 1.

    Its logarithm is a sigmoid of what is learned, so that unlike a clamped one it never gets stuck at a bound, and
    nothing waits for a device to clamp it.

    Args:
        initial: what it starts with, between the bounds.
    """

    def __init__(self, initial: float) -> None:
        super().__init__()
        share = math.log(initial / LOWEST) / math.log(HIGHEST / LOWEST)
        share = min(max(share, 1e-6), 1 - 1e-6)
        self.raised = nn.Parameter(torch.tensor(math.log(share / (1 - share))))

    def forward(self) -> Tensor:
        """The temperature, ()."""
        return LOWEST * (HIGHEST / LOWEST) ** self.raised.sigmoid()


def unit_vectors(vectors: Tensor) -> Tensor:
    """Vectors (..., D) of length one; zeros stay zeros, with a finite gradient."""
    squares = vectors.square().sum(-1, keepdim=True)
    long = squares > 0
    return torch.where(long, vectors * torch.where(long, squares, 1).rsqrt(), 0)


def info_nce(left: Tensor, right: Tensor, pairs: Tensor, temperature: Tensor) -> Tensor:
    """The symmetric InfoNCE loss of each row (Radford 2021; van den Oord 2018).

    With s_ij the similarity of row i's left side and row j's right one, divided by the temperature, row i has

        (log sum_j exp(s_ij) + log sum_j exp(s_ji)) / 2 - s_ii

    where j goes over the rows that are pairs. Of many rows, s is computed in parts, so that without gradients memory
    grows with B alone.

    Args:
        left: (B, D) unit vectors.
        right: (B, D) likewise.
        pairs: (B,) bool, the rows that have both sides: the others have no loss, and are nobody's negatives.
        temperature: () positive.

    Returns:
        (B,), zero for rows that are no pairs.
    """
    left = left / temperature
    lowest = torch.finfo(left.dtype).min
    size = max(1, PART // max(1, len(left)))
    rows, columns = [], []
    for start in range(0, max(1, len(left)), size):
        some = slice(start, start + size)
        similar = left[some] @ right.T
        rows.append(torch.where(pairs, similar, lowest).logsumexp(1))
        columns.append(torch.where(pairs[some, None], similar, lowest).logsumexp(0))
    both = torch.cat(rows) + (columns[0] if len(columns) == 1 else torch.stack(columns).logsumexp(0))
    # Half of a sum of two lowest numbers would be infinite, so rows without a loss are left out before.
    own = (left * right).sum(1)
    return torch.where(pairs, both, 0) / 2 - torch.where(pairs, own, 0)
