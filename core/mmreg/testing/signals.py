"""Signals to test encoders with: some usual specs, and random batches of any spec.

Axes: B batch, T the ragged axis.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from mmreg.contract.signals import Signal
from mmreg.contract.spec import GRID, SEQUENCE, TOKENS, VECTOR, Spec, Specs, by_name
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


def make_signal(
    specs: Specs, lengths: Sequence[int], generator: torch.Generator, labels: Tensor | None = None
) -> Signal[Any]:
    """A random batch.

    Args:
        specs: what one sample is: one array, or several by name.
        lengths: (B,) of each row; without a meaning where nothing is ragged.
        generator: where the numbers come from.
        labels: (B,) 0 or 1: classes that the rows are easily told apart by, at every position; None for none.
    """

    def drawn(spec: Spec) -> Tensor:
        shape = (len(lengths), *(max(lengths) if size is None else size for size in spec.shape))
        dtype = getattr(torch, spec.dtype)
        if dtype.is_floating_point:
            return make_numbers(shape, generator, labels).to(dtype)
        count = spec.vocabulary_size or 10
        low = 1 if spec.vocabulary_size else 0  # number 0 is padding
        values = torch.randint(low, count, shape, generator=generator)
        if labels is not None:
            half = max(1, (count - low) // 2)
            values = low + (values - low) % half + half * labels.view(-1, *[1] * (len(shape) - 1))
        return values.to(dtype)

    values = drawn(specs) if isinstance(specs, Spec) else {name: drawn(spec) for name, spec in specs.items()}
    if not is_ragged(specs):
        return Signal(values)
    known = torch.tensor(lengths)
    return map_ragged(Signal(values, known, known), specs, lambda tensor, spec: _filled(tensor, spec, known, 0))


def is_ragged(specs: Specs) -> bool:
    """Whether a sample has an array whose size varies."""
    return any(spec.ragged_axis is not None for spec in by_name(specs).values())


def map_ragged(signal: Signal[Any], specs: Specs, function: Callable[[Tensor, Spec], Tensor]) -> Signal[Any]:
    """A signal with a function applied to those of its tensors whose size varies, and to their specs."""
    if isinstance(specs, Spec):
        return signal if specs.ragged_axis is None else signal.replace(function(signal.values, specs))
    ragged = {name: spec for name, spec in specs.items() if spec.ragged_axis is not None}
    return signal.replace({**signal.values, **{name: function(signal.values[name], ragged[name]) for name in ragged}})


def make_numbers(shape: Sequence[int], generator: torch.Generator, labels: Tensor | None = None) -> Tensor:
    """Random numbers (B, ...); with labels (B,), of two classes that are easily told apart."""
    values = torch.randn(*shape, generator=generator)
    if labels is None:
        return values
    # 0 and 2 along every axis, so that neither a mean nor a norm over one of them takes the class away.
    pattern = 1 + torch.randn(shape[1:], generator=generator).sign()
    return 0.5 * values + (2.0 * labels - 1).view(-1, *[1] * (len(shape) - 1)) * pattern


def lengthened(signal: Signal[Any], specs: Specs, more: int, garbage: float) -> Signal[Any]:
    """A ragged signal with further padding, and all of its padding set to garbage (of tokens, to the last one)."""

    def longer(values: Tensor, spec: Spec) -> Tensor:
        assert spec.ragged_axis is not None
        after = values.dim() - 2 - spec.ragged_axis
        filler = garbage if values.is_floating_point() else (spec.vocabulary_size or 10) - 1
        return _filled(functional.pad(values, (0, 0) * after + (0, more)), spec, signal.lengths, filler)

    return map_ragged(signal, specs, longer)


def _filled(values: Tensor, spec: Spec, lengths: Tensor | None, garbage: float) -> Tensor:
    """Values (B, ...) with all of their padding along the axis that varies set to garbage."""
    assert lengths is not None
    assert spec.ragged_axis is not None
    values = values.movedim(spec.ragged_axis + 1, 1)
    mask = length_mask(lengths, values.shape[1])
    filler = torch.full((), garbage, dtype=values.dtype, device=values.device)
    filled = torch.where(mask.view(*mask.shape, *[1] * (values.dim() - 2)), values, filler)
    return filled.movedim(1, spec.ragged_axis + 1).contiguous()
