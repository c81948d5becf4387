"""Signals to test encoders with: some usual specs, and random batches of any spec.

Axes: B batch, T the ragged axis.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from mmreg.contract.signals import Signal
from mmreg.contract.spec import GRID, SEQUENCE, TOKENS, VECTOR, Spec
from mmreg.layers import length_mask

USUAL = (
    Spec(GRID, (3, 16, 16)),
    Spec(GRID, (1, 13, 17)),
    Spec(GRID, (1, 16, None)),
    Spec(GRID, (2, None, 16)),
    Spec(TOKENS, (None,), "int64", 11),
    Spec(TOKENS, (6,), "int64", 11),
    Spec(SEQUENCE, (None, 5)),
    Spec(SEQUENCE, (7, 5)),
    Spec(VECTOR, (6,)),
    Spec("TCHW", (None, 3, 16, 16)),
)
"""What an encoder is built for if its author names nothing: images, spectrograms, tokens, sequences, vectors, video."""

UNUSUAL = (
    Spec(GRID, (3, 16, 16), "int64"),
    Spec(GRID, (None, 16, 16)),
    Spec(TOKENS, (None,), "int64"),
    Spec(TOKENS, (None,), "float32"),
    Spec(SEQUENCE, (None, 5), "int64"),
    Spec(SEQUENCE, (7, None)),
    Spec(VECTOR, (None,)),
    Spec("QZ", (2, 3)),
)
"""What most encoders have to refuse: integers where numbers are measured, tokens without a vocabulary, odd axes."""

LONGEST = 9
"""T of a ragged batch."""


def make_signal(spec: Spec, lengths: Sequence[int], generator: torch.Generator, labels: Tensor | None = None) -> Signal:
    """A random batch.

    Args:
        spec: what one sample is.
        lengths: (B,) of each row; without a meaning where nothing is ragged.
        generator: where the numbers come from.
        labels: (B,) 0 or 1: classes that the rows are easily told apart by, at every position; None for none.
    """
    shape = [max(lengths) if size is None else size for size in spec.shape]
    dtype = getattr(torch, spec.dtype)
    if dtype.is_floating_point:
        values = make_numbers((len(lengths), *shape), generator, labels)
    else:
        count = spec.vocabulary_size or 10
        low = 1 if spec.vocabulary_size else 0  # number 0 is padding
        values = torch.randint(low, count, (len(lengths), *shape), generator=generator)
        if labels is not None:
            half = max(1, (count - low) // 2)
            values = low + (values - low) % half + half * labels.view(-1, *[1] * len(shape))
    if spec.ragged_axis is None:
        return Signal(values.to(dtype))
    known = torch.tensor(lengths)
    return _filled(Signal(values.to(dtype), known, known), spec.ragged_axis, 0)


def make_numbers(shape: Sequence[int], generator: torch.Generator, labels: Tensor | None = None) -> Tensor:
    """Random numbers (B, ...); with labels (B,), of two classes that are easily told apart."""
    values = torch.randn(*shape, generator=generator)
    if labels is None:
        return values
    # 0 and 2 along every axis, so that neither a mean nor a norm over one of them takes the class away.
    pattern = 1 + torch.randn(shape[1:], generator=generator).sign()
    return 0.5 * values + (2.0 * labels - 1).view(-1, *[1] * (len(shape) - 1)) * pattern


def lengthened(signal: Signal, spec: Spec, more: int, garbage: float) -> Signal:
    """A ragged signal with further padding, and all of its padding set to garbage (of tokens, to the last one)."""
    axis = spec.ragged_axis
    assert axis is not None
    if not signal.values.is_floating_point():
        garbage = (spec.vocabulary_size or 10) - 1
    after = signal.values.dim() - 2 - axis
    return _filled(signal.replace(functional.pad(signal.values, (0, 0) * after + (0, more))), axis, garbage)


def _filled(signal: Signal, axis: int, garbage: float) -> Signal:
    """A ragged signal with all of its padding along an axis (of a sample) set to garbage."""
    values = signal.values.movedim(axis + 1, 1)
    assert signal.lengths is not None
    mask = length_mask(signal.lengths, values.shape[1])
    filler = torch.full((), garbage, dtype=values.dtype, device=values.device)
    filled = torch.where(mask.view(*mask.shape, *[1] * (values.dim() - 2)), values, filler)
    return signal.replace(filled.movedim(1, axis + 1).contiguous())
