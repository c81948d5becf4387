"""What a value is taken apart into: words of a text, columns, numbers of a vector, regions of a picture or a sound.

Axes: P parts, and those of a `Spec`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from mmreg import VECTOR, Signal, Spec

REGIONS = 8
"""Regions along the height and along the width of a picture or spectrogram: 64 in all."""
STEPS = 16
"""Stretches along the time of a sequence."""


@dataclass(frozen=True)
class Parts:
    """How a signal of one row is divided.

    Attributes:
        names: (P) what each part is called.
        mask: (1, ...) int64, in the signal's shape, which part each number belongs to.
    """

    names: list[str]
    mask: Tensor


def words(text: str) -> list[tuple[str, str]]:
    """The words of a text, each with the text that is left without it.

    Example:
        >>> words("a red  thing")
        [('a', 'red  thing'), ('red', 'a thing'), ('thing', 'a red')]
    """
    spans = [match.span() for match in re.finditer(r"\S+\s*", text)]
    return [(text[start:end].strip(), f"{text[:start]}{text[end:]}".strip()) for start, end in spans]


def columns(row: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """The columns of a row that have a value, each with the row in which that cell is empty."""
    return [(name, {**row, name: None}) for name, value in row.items() if value is not None]


def regions(spec: Spec, signal: Signal) -> Parts:
    """Divide the signal of one row.

    A vector's numbers are parts by themselves; along any other axis but that of channels there are up to 8 stretches of
    about one size (16 of a sequence), and a part is where they cross.

    Args:
        spec: of one sample.
        signal: (1, *shape) of one row.
    """
    shape = signal.values.shape[1:]
    device = signal.values.device
    if spec.axes == VECTOR:
        names = [f"number {number}" for number in range(1, shape[0] + 1)]
        return Parts(names, torch.arange(shape[0], device=device)[None])
    whole = torch.zeros(shape, dtype=torch.int64, device=device)
    names = [""]
    host = signal.lengths_on_host()
    for axis, letter in enumerate(spec.axes):
        if letter == "C":
            continue
        size = shape[axis]
        used = int(host[0]) if axis == spec.ragged_axis and host is not None else size
        count = min(used, STEPS if letter == "T" and len(spec.axes) == 2 else REGIONS)
        block = (torch.arange(size, device=device).clamp(max=used - 1) * count).div(used, rounding_mode="floor")
        whole = whole * count + block.view([-1 if other == axis else 1 for other in range(len(shape))])
        edges = [-(-number * used // count) for number in range(count + 1)]
        word = _called(spec, letter)
        spans = [f"{word} {first + 1}-{last}" for first, last in pairwise(edges)]
        names = [f"{before}, {span}".lstrip(", ") for before in names for span in spans]
    return Parts(names, whole[None])


def _called(spec: Spec, letter: str) -> str:
    """What an axis is called: a grid whose width varies is a spectrogram."""
    sound = spec.axes == "CHW" and spec.shape[2] is None
    names = {"H": "bands" if sound else "rows", "W": "frames" if sound else "columns", "T": "steps"}
    return names.get(letter, letter)
