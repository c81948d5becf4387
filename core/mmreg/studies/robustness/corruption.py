"""Corruptions of stored signals: which fit a modality is decided by its spec, so a plugin's modality gets them too.

Axes: B batch, C channels, H W height and width, T time or tokens.

They are applied in CPU memory, before `Modality.transform`. Every row's draws (of several values a row, every value's)
come from a generator of its own, keyed by its number: they depend neither on the batch size nor on the strength, so a
curve over strengths changes one thing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmreg.contract.signals import Signal
from mmreg.contract.spec import Spec, Specs, specs_text
from mmreg.data.batches import Batch
from mmreg.errors import OptionError
from mmreg.layers import length_mask
from mmreg.messages import near
from mmreg.model.seeding import generator

TRUNCATE = 4.0
"""Deviations at which the kernel of a blur is cut off."""


@dataclass(frozen=True)
class Corruption:
    """A way to corrupt signals.

    Attributes:
        apply: corrupts a batch of stored values by a strength above 0, with a generator for each row.
        fits: whether it has a meaning for a spec.
        needs: what it fits, in words.
        unit: what its strength is, for a spec that it fits.
        highest: the greatest strength.
    """

    apply: Callable[[Signal, Spec, float, Sequence[torch.Generator]], Signal]
    fits: Callable[[Spec], bool]
    needs: str
    unit: Callable[[Spec], str]
    highest: float = math.inf


def noise(signal: Signal, spec: Spec, strength: float, generators: Sequence[torch.Generator]) -> Signal:
    """Add Gaussian noise, its deviation `strength` times the scale of the values; integers are rounded and clipped.

    The scale of unsigned integers (pixels) is their whole range, such as 255. That of others is the root mean square
    of the row's own values, so for sound the signal-to-noise ratio is -20 log10(strength) dB, and silence stays silent.
    """
    values = signal.values
    wide = values if values.dtype in (torch.float32, torch.float64) else values.double()
    lengths = signal.lengths_on_host()
    sizes = [values.shape[1]] * len(values) if lengths is None else lengths.tolist()
    drawn = torch.zeros_like(wide)
    for row, size, random in zip(drawn, sizes, generators, strict=True):
        row[:size] = torch.randn(row[:size].shape, generator=random, dtype=wide.dtype)
    if _is_unsigned(spec):
        scale = torch.full((len(values),), torch.iinfo(values.dtype).max, dtype=wide.dtype)
    else:
        counts = torch.tensor(sizes) * math.prod(values.shape[2:])
        scale = (wide.flatten(1).square().sum(1) / counts).sqrt()  # padding is stored as zeros
    scale = (strength * scale).reshape(-1, *[1] * (values.dim() - 1))
    return signal.replace(_as_stored(wide + scale * drawn, values))


def blur(signal: Signal, spec: Spec, strength: float, generators: Sequence[torch.Generator]) -> Signal:
    """Blur along H and W by a Gaussian of deviation `strength` in pixels; beyond the edges their pixels go on.

    The kernel is sampled at whole pixels and cut off at 4 deviations, as SciPy's `gaussian_filter` does.
    """
    wide = signal.values.double()
    for letter in "HW":
        axis = spec.axes.index(letter) + 1
        weights = _blur_matrix(wide.shape[axis], strength)
        wide = torch.tensordot(wide, weights, ([axis], [1])).movedim(-1, axis)
    return signal.replace(_as_stored(wide, signal.values))


def drop(signal: Signal, spec: Spec, strength: float, generators: Sequence[torch.Generator]) -> Signal:
    """Remove a share of each row's tokens or time steps at random, so that it gets shorter; at least one is left."""
    lengths = signal.lengths_on_host()
    assert lengths is not None
    rows = []
    for values, length, random in zip(signal.values, lengths.tolist(), generators, strict=True):
        removed = min(round(strength * length), length - 1)
        rows.append(values[torch.randperm(length, generator=random)[removed:].sort().values])
    left = torch.tensor([len(row) for row in rows])
    return Signal(torch.nn.utils.rnn.pad_sequence(rows, batch_first=True), left, left)


def silence(signal: Signal, spec: Spec, strength: float, generators: Sequence[torch.Generator]) -> Signal:
    """Set a share of each row's time, in one piece at a random place, to zero."""
    axis = spec.axes.index("T")
    total = signal.values.shape[axis + 1]
    lengths = signal.lengths_on_host()
    sizes = torch.full((len(signal),), total) if lengths is None or spec.ragged_axis != axis else lengths
    spans = (strength * sizes).round().long()
    places = torch.stack([torch.rand((), generator=random, dtype=torch.float64) for random in generators])
    starts = (places * (sizes - spans + 1)).long()
    silent = length_mask(starts + spans, total) & ~length_mask(starts, total)
    silent = silent.reshape(-1, *[1] * axis, total, *[1] * (len(spec.axes) - axis - 1))
    values = signal.values.numpy()  # torch has no `where` for every integer
    return signal.replace(torch.from_numpy(np.where(silent.numpy(), values.dtype.type(0), values)))


def _is_numeric(spec: Spec) -> bool:
    return spec.vocabulary_size is None and spec.dtype != "bool"


def _is_unsigned(spec: Spec) -> bool:
    return spec.dtype.startswith("uint")


CORRUPTIONS = {
    "noise": Corruption(
        noise,
        _is_numeric,
        "numbers that are no tokens",
        lambda spec: "share of the full range" if _is_unsigned(spec) else "share of each row's root mean square",
    ),
    "blur": Corruption(
        blur,
        lambda spec: _is_numeric(spec) and all(letter in spec.axes and spec.size(letter) for letter in "HW"),
        "axes H and W of fixed size",
        lambda spec: "deviation in pixels",
    ),
    "drop": Corruption(
        drop,
        lambda spec: spec.axes.startswith("T") and spec.ragged_axis == 0,
        "a ragged axis T (tokens or time steps)",
        lambda spec: "share of time steps removed" if spec.vocabulary_size is None else "share of tokens removed",
        1.0,
    ),
    "silence": Corruption(
        silence,
        lambda spec: _is_numeric(spec) and "T" in spec.axes,
        "an axis T of numbers that are no tokens",
        lambda spec: "share of the time",
        1.0,
    ),
}
"""Every corruption by name."""


def check_corruption(name: str, modality: str, spec: Specs, strengths: Sequence[float]) -> Corruption:
    """The corruption of this name.

    Args:
        name: its name.
        modality: the modality that it is for.
        spec: what that modality stores.
        strengths: how strong it is to be.

    Raises:
        OptionError: there is no such corruption, it does not fit the spec (says which do), or a strength is out of its
            bounds.
    """
    if not isinstance(spec, Spec):
        raise OptionError(
            f"{name} does not fit {modality}, which is stored as several arrays ({specs_text(spec)}): a corruption "
            "changes one; measure it by --missing or --missing-rate"
        )
    fitting = ", ".join(known for known, corruption in CORRUPTIONS.items() if corruption.fits(spec)) or "none"
    if name not in CORRUPTIONS:
        raise OptionError(
            f"there is no corruption {name!r}; those that fit {modality} are: {fitting}{near(name, CORRUPTIONS)}"
        )
    corruption = CORRUPTIONS[name]
    if not corruption.fits(spec):
        raise OptionError(
            f"{name} does not fit {modality}, which is stored as {spec}: it needs {corruption.needs}; "
            f"those that fit are: {fitting}"
        )
    wrong = [strength for strength in strengths if not 0 <= strength <= corruption.highest]
    if wrong:
        most = "at least 0" if math.isinf(corruption.highest) else f"from 0 to {corruption.highest:g}"
        raise OptionError(f"the strength of {modality}:{name} ({corruption.unit(spec)}) is {most}, found {wrong[0]:g}")
    if not any(strengths):
        raise OptionError(f"{modality}:{name} needs a strength above 0; 0 is measured in any case, for reference")
    return corruption


def corrupting(
    name: str, modality: str, spec: Spec, strength: float, rows: NDArray[np.int64], seed: int, of: str | None = None
) -> Callable[[Batch], Batch]:
    """What corrupts one modality of a batch; which rows have it stays as it is.

    Args:
        name: of a corruption that fits.
        modality: the name of what is corrupted in the batch.
        spec: what it stores.
        strength: at 0 nothing is changed.
        rows: (R,) the table's numbers of the split's rows.
        seed: what all draws are keyed by, beside the modality's name.
        of: that name, where an input of a combined run is called otherwise.
    """

    def change(batch: Batch) -> Batch:
        signal = batch.signals.get(modality)
        if signal is None or strength == 0:
            return batch
        where = batch.rows[modality]
        index = batch.index if where is None else batch.index[where.numpy()]
        keys: list[tuple[int, ...]] = [(row,) for row in rows[index].tolist()]
        if (segments := batch.segments.get(modality)) is not None:
            pairs = zip(segments.rows.tolist(), segments.places.tolist(), strict=True)
            keys = [(*keys[row], place) for row, place in pairs]
        generators = [generator("cpu", seed, "corrupt", of or modality, name, *key) for key in keys]
        corrupted = CORRUPTIONS[name].apply(signal, spec, strength, generators)
        return replace(batch, signals={**batch.signals, modality: corrupted})

    return change


def _as_stored(wide: Tensor, stored: Tensor) -> Tensor:
    """Values in the stored dtype; for integers rounded and clipped to what it can hold."""
    if not stored.is_floating_point():
        limits = torch.iinfo(stored.dtype)
        wide = wide.round().clamp(limits.min, limits.max)
    return wide.to(stored.dtype)


def _blur_matrix(size: int, sigma: float) -> Tensor:
    """(size, size) float64: the weight of each pixel (column) in each blurred one (row), along one axis."""
    radius = int(TRUNCATE * sigma + 0.5)
    offsets = torch.arange(-radius, radius + 1)
    kernel = torch.exp(-0.5 * (offsets.double() / sigma).square())
    kernel /= kernel.sum()
    sources = (torch.arange(size)[:, None] + offsets).clamp(0, size - 1)
    return torch.zeros(size, size, dtype=torch.float64).scatter_add_(1, sources, kernel.expand(size, -1))
