"""Signals to test encoders with: some usual specs, and random batches of any spec.

Axes: B batch, T the ragged axis.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from mmreg.contract.signals import Signal
from mmreg.contract.spec import GRID, SEQUENCE, TOKENS, VECTOR, Spec, Specs, by_name

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
    """A random batch; see `_made` for the arguments, and for several arrays a mapping of their specs."""
    made = {name: _made(spec, lengths, generator, labels) for name, spec in by_name(specs).items()}
    return _joined(specs, made)


def _joined(specs: Specs, signals: Mapping[str, Signal]) -> Signal[Any]:
    """The signals of a sample's arrays as one."""
    if isinstance(specs, Spec):
        return signals[""]
    ragged = next((signal for signal in signals.values() if signal.lengths is not None), Signal(torch.zeros(0)))
    return Signal({name: one.values for name, one in signals.items()}, ragged.lengths, ragged.host_lengths)


def _parts(signal: Signal[Any], specs: Specs) -> dict[str, Signal]:
    """A signal of each array by name, with lengths where it is ragged."""
    found = {}
    for name, spec in by_name(specs).items():
        values = signal.values[name] if name else signal.values
        fixed = spec.ragged_axis is None
        found[name] = Signal(values) if fixed else Signal(values, signal.lengths, signal.host_lengths)
    return found


def is_ragged(specs: Specs) -> bool:
    """Whether anything varies from row to row."""
    return any(spec.ragged_axis is not None for spec in by_name(specs).values())


def _made(spec: Spec, lengths: Sequence[int], generator: torch.Generator, labels: Tensor | None) -> Signal:
    """A random batch of one array.

    Args:
        spec: what one sample is.
        lengths: (B,) of each row; without a meaning where nothing is ragged.
        generator: where the numbers come from.
        labels: (B,) 0 or 1: classes that the rows are easily told apart by, at every position; None for none.
    """
    rows, axis = len(lengths), spec.ragged_axis
    shape = [max(lengths) if size is None else size for size in spec.shape]
    dtype = getattr(torch, spec.dtype)
    if dtype.is_floating_point:
        values = torch.randn(rows, *shape, generator=generator)
        if labels is not None:
            # 0 and 2 along every axis, so that neither a mean nor a norm over one of them takes the class away.
            pattern = 1 + torch.randn(shape, generator=generator).sign()
            values = 0.5 * values + (2.0 * labels - 1).view(-1, *[1] * len(shape)) * pattern
    else:
        count = spec.vocabulary_size or 10
        low = 1 if spec.vocabulary_size else 0  # number 0 is padding
        values = torch.randint(low, count, (rows, *shape), generator=generator)
        if labels is not None:
            half = max(1, (count - low) // 2)
            values = low + (values - low) % half + half * labels.view(-1, *[1] * len(shape))
    values = values.to(dtype)
    if axis is None:
        return Signal(values)
    known = torch.tensor(lengths)
    valid = torch.arange(shape[axis])[None] < known[:, None]
    mask = valid.view(rows, *(size if place == axis else 1 for place, size in enumerate(shape)))
    return Signal(torch.where(mask, values, torch.zeros((), dtype=dtype)), known, known)


def lengthened(signal: Signal[Any], specs: Specs, more: int, garbage: float) -> Signal[Any]:
    """A ragged signal with further padding, and all of its padding set to garbage (of tokens, to the last one)."""
    parts, by = _parts(signal, specs), by_name(specs)
    return _joined(specs, {name: _lengthened(part, by[name], more, garbage) for name, part in parts.items()})


def _lengthened(signal: Signal, spec: Spec, more: int, garbage: float) -> Signal:
    axis = spec.ragged_axis
    if axis is None:
        return signal
    assert signal.lengths is not None
    values = signal.values
    if not values.is_floating_point():
        garbage = (spec.vocabulary_size or 10) - 1
    after = values.dim() - 2 - axis
    values = functional.pad(values, (0, 0) * after + (0, more))
    valid = torch.arange(values.shape[axis + 1], device=values.device)[None] < signal.lengths[:, None]
    mask = valid.view(len(values), *(size if n == axis else 1 for n, size in enumerate(values.shape[1:])))
    filler = torch.full((), garbage, dtype=values.dtype, device=values.device)
    return Signal(torch.where(mask, values, filler), signal.lengths, signal.host_lengths)


def take(signal: Signal[Any], specs: Specs, rows: Sequence[int]) -> Signal[Any]:
    """Some rows of a signal, padded no more than they need."""
    parts, by = _parts(signal, specs), by_name(specs)
    return _joined(specs, {name: _taken(part, by[name], rows) for name, part in parts.items()})


def _taken(signal: Signal, spec: Spec, rows: Sequence[int]) -> Signal:
    values = signal.values[list(rows)]
    if spec.ragged_axis is None or signal.lengths is None:
        return Signal(values)
    lengths = signal.lengths[list(rows)]
    host = lengths.cpu()
    return Signal(values.narrow(spec.ragged_axis + 1, 0, int(host.max())), lengths, host)
