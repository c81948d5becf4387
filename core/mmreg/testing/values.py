"""Raw values to test modalities with: some that one may load, and some that nobody should choke on.

Axes: T time, C channels, H W height and width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmreg.contract.interfaces import Modality
from mmreg.testing.subject import Skipped, Subject

LEAST = 4
"""Values that the checks need: some to fit on, and some that are not seen until later."""


def usual_values() -> Mapping[str, Sequence[Any]]:
    """Families of values that a modality is tried with if its author names none: texts, arrays, numbers."""
    random = np.random.default_rng(0)
    words = ["a", "cat", "sat", "on", "the", "mat", "while", "seven", "dogs", "ran", "past", "it"]
    texts = [" ".join(random.choice(words, size)) for size in (5, 1, 3, 8, 2, 7)]
    shapes = ((9, 12, 3), (16, 8, 3), (5, 5, 3), (20, 9, 3), (12, 12, 3), (7, 11, 3))
    return {
        "texts": texts,
        "pictures (H, W, C) uint8": [random.integers(0, 256, shape, np.uint8) for shape in shapes],
        "waveforms (T,) float32": [
            (0.3 * random.standard_normal(size)).astype(np.float32) for size in (4000, 1600, 7000, 900, 5000, 3100)
        ],
        "sequences (T, C) float32": [
            random.standard_normal((size, 3)).astype(np.float32) for size in (5, 1, 9, 3, 6, 2)
        ],
        "vectors (C,) float32": list(random.standard_normal((6, 4)).astype(np.float32)),
        "numbers": random.standard_normal(6).tolist(),
    }


def values_of(subject: Subject) -> list[Any]:
    """The values to test a modality with.

    Raises:
        Skipped: none were given, and it does not load any of the usual ones.
    """
    if subject.values:
        if len(subject.values) < LEAST:
            raise Skipped(f"it was given {len(subject.values)} values; pass at least {LEAST}")
        return list(subject.values)
    for family in usual_values().values():
        try:
            modality = new(subject)
            modality.fit_values(iter(family))
            for value in family:
                modality.load(value)
        except Skipped:
            raise
        except Exception:  # what is not for it is no failure of it
            continue
        return list(family)
    raise Skipped("it needs raw values, as it loads no texts and no arrays; pass values=[...] (or --value)")


def new(subject: Subject) -> Modality:
    """A modality that has learned nothing yet."""
    modality: Modality = subject.cls(**subject.all_options)
    first = next(iter(subject.values), None)
    if modality.multiple_columns and isinstance(first, Mapping):
        modality.columns = tuple(first)
    return modality


def hostile_values(folder: Path) -> dict[str, Any]:
    """Values that a table may hold by mistake, by what they are; some are files in the folder."""
    random = np.random.default_rng(1)
    files = {
        "an empty file": b"",
        "a file of random bytes": random.bytes(300),
        "a file that begins as a PNG": b"\x89PNG\r\n\x1a\n" + random.bytes(50),
        "a file that begins as a WAV": b"RIFF\x24\x00\x00\x00WAVEfmt " + random.bytes(50),
        "a text file": b"not what you think",
    }
    values: dict[str, Any] = {}
    for number, (what, content) in enumerate(files.items()):
        path = folder / f"{number}.bin"
        path.write_bytes(content)
        values[what] = path
    return values | {
        "a file that is not there": folder / "missing.bin",
        "a folder": folder,
        "no bytes": b"",
        "bytes that are no text": b"\xff\xfe\x00",
        "empty text": "",
        "blank text": " \t\n",
        "half a surrogate pair": "\ud800",
        "a zero byte in a text": "a\0b",
        "a long text": "word " * 5000,
        "true": True,
        "minus one": -1,
        "a large integer": 10**400,
        "NaN": float("nan"),
        "infinity": float("inf"),
        "an empty list": [],
        "a nested list": [[1], [2, 3]],
        "an empty dict": {},
        "an empty array": np.zeros(0, np.float32),
        "an array of no rows": np.zeros((0, 3), np.float32),
        "an array without axes": np.float32(1.5),
        "an array of five axes": np.zeros((1, 2, 1, 2, 1), np.float32),
        "an array of NaN": np.full((4, 4), np.nan, np.float32),
        "an array of objects": np.array([None, "x"], object),
        "an object": object(),
    }
