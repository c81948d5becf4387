"""Raw values to test modalities with: some that one may load, and some that nobody should choke on.

Axes: T time, C channels, H W height and width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmreg.testing.expectations import Skipped
from mmreg.testing.subject import Subject

LEAST = 4
"""Values that the checks need: some to fit on, and some that are not seen until later."""


def usual_values() -> list[Sequence[Any]]:
    """Families of values that a modality is tried with if its author names none: texts, arrays, numbers."""
    random = np.random.default_rng(0)
    words = ["a", "cat", "sat", "on", "the", "mat", "while", "seven", "dogs", "ran", "past", "it"]
    texts = [" ".join(random.choice(words, size)) for size in (5, 1, 3, 8, 2, 7)]
    shapes = ((9, 12, 3), (16, 8, 3), (5, 5, 3), (20, 9, 3), (12, 12, 3), (7, 11, 3))
    pictures = [random.integers(0, 256, shape, np.uint8) for shape in shapes]
    lengths = (4000, 1600, 7000, 900, 5000, 3100)
    waveforms = [(0.3 * random.standard_normal(size)).astype(np.float32) for size in lengths]
    sequences = [random.standard_normal((size, 3)).astype(np.float32) for size in (5, 1, 9, 3, 6, 2)]
    vectors = list(random.standard_normal((6, 4)).astype(np.float32))
    return [texts, pictures, waveforms, sequences, vectors, random.standard_normal(6).tolist()]


def values_of(subject: Subject) -> list[Any]:
    """The values to test a modality with; `Skipped` if none were given, and it does not load any of the usual ones."""
    if subject.values:
        if len(subject.values) < LEAST:
            raise Skipped(f"it was given {len(subject.values)} values; pass at least {LEAST}")
        return list(subject.values)

    if subject.cls.multiple_columns:
        raise Skipped("it reads several columns; pass values=[{column: value, ...}, ...] (or --value as JSON)")

    def take(family: Sequence[Any]) -> None:
        modality = subject.new()
        modality.fit_values(iter(family))
        for value in family:
            modality.load(value)

    why = "it needs raw values, as it loads no texts and no arrays; pass values=[...] (or --value)"
    return first_taken(usual_values(), take, why)


def first_taken(families: Iterable[Sequence[Any]], take: Callable[[Sequence[Any]], None], why: str) -> list[Any]:
    """The first of several families of values that can be taken without an error; `Skipped`, and why, if none can."""
    for family in families:
        try:
            take(family)
        except Skipped:
            raise
        except Exception:  # what is not for it is no failure of it
            continue
        return list(family)
    raise Skipped(why)


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
