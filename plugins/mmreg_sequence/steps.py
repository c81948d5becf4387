"""What encoders of sequences share: which specs they take, and the vectors of a sequence's steps.

Axes: B batch, T time or tokens, C size of a given vector, D features.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmreg import SEQUENCE, TOKENS, Signal, Spec
from mmreg.layers import length_mask


def refusal(spec: Spec) -> str | None:
    """Why a spec is no sequence of tokens or vectors; None if it is one."""
    if spec.axes == TOKENS:
        if spec.vocabulary_size is None or not spec.dtype.startswith(("int", "uint")):
            return f'it takes tokens "{TOKENS}" that are integers below a known vocabulary size'
        return None
    if spec.axes == SEQUENCE:
        if spec.size("C") is None or "float" not in spec.dtype:
            return f'it takes a sequence "{SEQUENCE}" of floating-point vectors, all of one size C'
        return None
    return f'it takes tokens "{TOKENS}" (such as text) or a sequence of vectors "{SEQUENCE}"'


class Steps(nn.Module):
    """Brings tokens (by an embedding) or vectors (by a linear layer) to one size; padding becomes zeros.

    Args:
        spec: of the sequence.
        size: D.
    """

    def __init__(self, spec: Spec, size: int) -> None:
        super().__init__()
        self.embedding: nn.Embedding | None = None
        self.linear: nn.Linear | None = None
        if spec.vocabulary_size is not None:
            self.embedding = nn.Embedding(spec.vocabulary_size, size, padding_idx=0)
        else:
            width = spec.size("C")
            assert width is not None
            self.linear = nn.Linear(width, size)

    def forward(self, signal: Signal) -> tuple[Tensor, Tensor | None]:
        """The steps' vectors (B, T, D), and which are valid, (B, T) bool; None where all are known to be."""
        values, host = signal.values, signal.host_lengths
        length = values.shape[1]
        mask = None
        if signal.lengths is not None and not (host is not None and bool((host == length).all())):
            mask = length_mask(signal.lengths, length)
        if self.embedding is not None:
            vectors: Tensor = self.embedding(values if mask is None else values.masked_fill(~mask, 0))
        else:
            assert self.linear is not None
            vectors = self.linear(values if mask is None else values.masked_fill(~mask.unsqueeze(-1), 0))
        return vectors if mask is None else torch.where(mask.unsqueeze(-1), vectors, 0), mask
