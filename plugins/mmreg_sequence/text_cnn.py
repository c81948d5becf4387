"""A convolutional network for sequences, such as sentences.

Axes: B batch, T time or tokens, D features.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import torch
from annotated_types import Ge, Le, Lt, MinLen
from torch import nn

from mmreg import Encoder, Features, Signal, Spec
from mmreg.errors import SpecError
from mmreg_sequence.steps import Steps, refusal


class TextCNN(Encoder):
    """Convolutions of several widths over the steps, ReLU, their maximum over time, dropout, a linear layer (Kim 2014).

    A sequence that is shorter than a convolution is filled up with zeros to its width.

    Args:
        spec: tokens "T" with a vocabulary size, or vectors "TC" with a fixed C.
        features: D, the size of what it gives.
        embedding_size: the size of a token's vector, or of what a linear layer makes of each given vector.
        widths: how many steps each kind of convolution sees at once.
        filters: how many convolutions there are of each width.
        dropout: the share of values dropped after the embedding and before the linear layer.

    Raises:
        SpecError: from a spec that `accepts` refuses.
    """

    def __init__(
        self,
        spec: Spec,
        *,
        features: Annotated[int, Ge(1)] = 100,
        embedding_size: Annotated[int, Ge(1)] = 128,
        widths: Annotated[tuple[Annotated[int, Ge(1), Le(1000)], ...], MinLen(1)] = (3, 4, 5),
        filters: Annotated[int, Ge(1)] = 100,
        dropout: Annotated[float, Ge(0), Lt(1)] = 0.5,
    ) -> None:
        super().__init__()
        if reason := self.accepts(spec, {}):
            raise SpecError(f"text_cnn does not take {spec}: {reason}")
        self.steps = Steps(spec, embedding_size)
        self.convolutions = nn.ModuleList(nn.Conv1d(embedding_size, filters, width) for width in widths)
        self.widths = widths
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(filters * len(widths), features)
        self.out_features = features

    @classmethod
    def accepts(cls, spec: Spec, options: Mapping[str, Any]) -> str | None:
        """It takes tokens with a vocabulary size, and sequences of floating-point vectors of one size."""
        return refusal(spec)

    def forward(self, signal: Signal) -> Features:
        """Encode tokens (B, T) or vectors (B, T, C) to pooled (B, D)."""
        vectors, mask = self.steps(signal)
        vectors = self.dropout(vectors).transpose(1, 2)
        short = max(self.widths) - vectors.shape[2]
        if short > 0:
            vectors = nn.functional.pad(vectors, (0, short))
        lengths = signal.lengths
        pooled = []
        for width, convolution in zip(self.widths, self.convolutions, strict=True):
            found = convolution(vectors).relu()
            places = torch.arange(found.shape[2], device=found.device)
            if mask is not None and lengths is not None:
                # The last place at which all steps are valid, or the first one of a sequence that is shorter.
                valid = places <= (lengths[:, None] - width).clamp(min=0)
                found = found.masked_fill(~valid.unsqueeze(1), 0)  # no less than ReLU's least
            else:
                found = found[:, :, : max(1, signal.values.shape[1] - width + 1)]
            pooled.append(found.amax(2))
        return Features(pooled=self.linear(self.dropout(torch.cat(pooled, 1))))
