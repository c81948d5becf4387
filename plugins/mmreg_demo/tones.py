"""DTMF: the pair of tones that a telephone key sends, over a bad line."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE = 8000
KEYS = ("123", "456", "789", "*0#")
ROWS = (697, 770, 852, 941)
COLUMNS = (1209, 1336, 1477)
"""The frequencies in Hz of the keys' rows and columns (ITU-T Q.23)."""

SECONDS = (0.15, 0.4)
NOISE = 0.5
"""The noise's deviation; a tone's amplitude is between 0.1 and 0.3."""
LOST = 0.5
"""How often the line swallows one of the two tones."""


def frequencies(digit: int) -> tuple[int, int]:
    """The two frequencies in Hz of a digit's key."""
    row = next(number for number, keys in enumerate(KEYS) if str(digit) in keys)
    return ROWS[row], COLUMNS[KEYS[row].index(str(digit))]


def tone(digit: int, generator: np.random.Generator) -> NDArray[np.float32]:
    """The sound of a digit's key, (samples,) from -1 to 1: of random length, in noise, sometimes one tone short."""
    length = int(generator.uniform(*SECONDS) * SAMPLE_RATE)
    seconds = np.arange(length) / SAMPLE_RATE
    amplitudes = generator.uniform(0.1, 0.3, 2)
    if generator.random() < LOST:
        amplitudes[generator.integers(2)] = 0
    sound = generator.normal(0, NOISE, length)
    for frequency, amplitude in zip(frequencies(digit), amplitudes, strict=True):
        sound += amplitude * np.sin(2 * np.pi * frequency * seconds + generator.uniform(0, 2 * np.pi))
    return np.clip(sound / 2, -1, 1).astype(np.float32)
