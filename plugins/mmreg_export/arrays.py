"""The arrays that an exported model takes: what each modality's `load` gives, their lengths, and what is present.

Axes: B batch, T the ragged axis of a modality, M modalities.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mmreg import SEQUENCE, Modality, Run, Signal, Spec

PRESENT = "present_"
"""What the name of the input that tells which rows have a modality begins with."""
WAVEFORM = 400
"""Samples that count as a step where an encoder takes the waveform itself: networks of speech look at so many."""
PROBE = 4096
"""Samples of a waveform, of which the features tell how many samples a step of them takes."""


@dataclass(frozen=True)
class ModalityArrays:
    """What a modality takes part with.

    Attributes:
        name: the modality's.
        specs: of each stored array, by the name of the input.
        keys: by the name of the input, the array's name among several; "" if there is one alone.
        lengths: the name of the input with the rows' lengths; "" if nothing is ragged.
        scale: how many steps of what is stored make one of what an encoder sees.
    """

    name: str
    specs: Mapping[str, Spec]
    keys: Mapping[str, str]
    lengths: str
    scale: int

    @property
    def present(self) -> str:
        """The name of the input (B,) that tells which rows have it."""
        return PRESENT + self.name

    def signal(self, inputs: Mapping[str, Tensor]) -> Signal[Any]:
        """The modality's signal of all rows, of the model's inputs by name."""
        values = {key: inputs[name] for name, key in self.keys.items()}
        lengths = inputs[self.lengths] if self.lengths else None
        return Signal(values.get("", values), lengths)

    def random(self, present: Tensor, steps: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Values (B, ...) of any content, with nothing but zeros for the rows that lack it.

        Args:
            present: (B,) bool.
            steps: T of the longest row, in steps of an encoder; as many samples as these take of a waveform.
            generator: where they come from.
        """
        rows, longest = len(present), steps * self.scale
        found = {}
        for name, spec in self.specs.items():
            values = _random(spec, (rows, *(longest if size is None else size for size in spec.shape)), generator)
            found[name] = values * present.view(-1, *[1] * (values.dim() - 1)).to(values.dtype)
        if self.lengths:
            lengths = torch.randint(1, longest + 1, (rows,), generator=generator)
            lengths[int(present.int().argmax())] = longest
            lengths[~present] = 1
            found[self.lengths] = lengths
            for name, spec in self.specs.items():
                if spec.ragged_axis is not None:
                    beyond = torch.arange(longest) >= lengths[:, None]
                    found[name][beyond] = 0
        return found


def model_arrays(run: Run) -> list[ModalityArrays]:
    """What each modality takes part with, in the order of the model."""
    given = run.recipe["modalities"]
    return [_of(name, run.modalities[name], given[name].get("features") == "waveform") for name in run.model.modalities]


def random_inputs(
    modalities: list[ModalityArrays], rows: int, steps: int, seed: int = 0, absent: bool = True
) -> dict[str, Tensor]:
    """Inputs by name, of any content: of two rows and more, some lack some of the modalities."""
    generator = torch.Generator().manual_seed(seed)
    present = torch.ones(rows, len(modalities), dtype=torch.bool)
    if absent and rows > 1:
        present = torch.rand(present.shape, generator=generator) < 0.7
        present[0] = True
        present[1:2] &= len(modalities) > 1
    found: dict[str, Tensor] = {}
    for column, modality in enumerate(modalities):
        found |= modality.random(present[:, column], steps, generator)
    return {**found, **{each.present: present[:, column] for column, each in enumerate(modalities)}}


def present_rows(modalities: Sequence[ModalityArrays], inputs: Mapping[str, Tensor]) -> Tensor:
    """Which row has which modality (B, M) bool, of the model's inputs by name."""
    return torch.stack([inputs[each.present] for each in modalities], 1)


def _of(name: str, modality: Modality, waveform: bool) -> ModalityArrays:
    stored = modality.stored
    specs = {"": stored} if isinstance(stored, Spec) else dict(stored)
    names = {key: f"{name}.{key}" if key else name for key in specs}
    ragged = any(spec.ragged_axis is not None for spec in specs.values())
    scale = WAVEFORM if waveform else 1
    only = specs.get("")
    if not waveform and only is not None and only.axes == SEQUENCE and ragged:
        values = torch.zeros(1, PROBE, *(size or 1 for size in only.shape[1:]), dtype=getattr(torch, only.dtype))
        lengths = modality.transform(Signal(values, torch.tensor([PROBE])), training=False).lengths
        scale = 1 if lengths is None else max(1, PROBE // int(lengths[0]))
    return ModalityArrays(
        name,
        {names[key]: spec for key, spec in specs.items()},
        {names[key]: key for key in specs},
        f"{name}.lengths" if ragged else "",
        scale,
    )


def _random(spec: Spec, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    dtype = getattr(torch, spec.dtype)
    if dtype.is_floating_point:
        return torch.randn(shape, generator=generator).to(dtype)
    if dtype == torch.bool:
        return torch.rand(shape, generator=generator) < 0.5
    most = spec.vocabulary_size or min(256, torch.iinfo(dtype).max + 1)
    return torch.randint(1 if spec.vocabulary_size else 0, max(most, 2), shape, generator=generator).to(dtype)
