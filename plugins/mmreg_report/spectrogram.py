"""The picture of a sound: how strong each frequency is over time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

WINDOW = 256
FRAMES = 120
RANGE = 70.0
"""Decibels from the darkest to the brightest."""


def spectrogram(samples: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Samples (T,) as a picture (1, H, W), the lowest frequency at the bottom, the strongest one white."""
    padded = np.pad(np.nan_to_num(samples), (0, max(0, WINDOW - len(samples))))
    hop = max(1, (len(padded) - WINDOW) // (FRAMES - 1)) if len(padded) > WINDOW else 1
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::hop]
    power = np.abs(np.fft.rfft(frames * np.hanning(WINDOW), axis=1)) ** 2
    decibels = 10 * np.log10(power / max(float(power.max()), 1e-20) + 1e-12)
    grey = ((decibels / RANGE + 1).clip(0, 1) * 255).astype(np.uint8)
    picture: NDArray[np.uint8] = grey.T[None, ::-1].reshape(1, WINDOW // 2 + 1, -1)
    return picture[:, ::2, :FRAMES]
