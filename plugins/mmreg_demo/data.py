"""The demo's data set: scikit-learn's scanned digits, each with a telephone tone and an English hint.

No modality tells every digit: the scans are noisy and partly covered, the line loses tones, the hints are vague.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmreg.errors import MissingPackageError
from mmreg_demo.hints import hints
from mmreg_demo.tones import SAMPLE_RATE, tone

SPLITS = {"train": 0.6, "validation": 0.15, "test": 0.25}
SCALE = 8
"""Pixels of a picture's file for each pixel of the scan."""
NOISE = 0.3
COVERED = 4
"""Side of the square, in pixels of the scan, that hides a part of it."""


def load_scans() -> tuple[NDArray[np.float64], list[int]]:
    """The 1,797 scans that scikit-learn brings, (N, 8, 8) from 0 to 1, and their digits.

    Raises:
        MissingPackageError: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise MissingPackageError(
            "the demo takes its digits from scikit-learn, which is not installed; type: pip install 'mmreg[demo]'"
        ) from error
    digits = load_digits()
    return digits.images / 16, digits.target.tolist()


def cover(scan: NDArray[np.float64], generator: np.random.Generator) -> NDArray[np.uint8]:
    """A scan (8, 8) with noise and a part covered, enlarged to a picture (64, 64) of 0 to 255."""
    noisy = scan + generator.normal(0, NOISE, scan.shape)
    top, left = generator.integers(0, len(scan) - COVERED + 1, 2)
    noisy[top : top + COVERED, left : left + COVERED] = 0.5
    grey = (noisy.clip(0, 1) * 255).round().astype(np.uint8)
    return grey.repeat(SCALE, 0).repeat(SCALE, 1)


def write_data(folder: Path, scans: NDArray[np.float64], digits: list[int], seed: int) -> Path:
    """Write the data set: table.csv, images and tones.

    Args:
        folder: where to; it must exist.
        scans: (N, 8, 8) from 0 to 1.
        digits: (N,) from 0 to 9.
        seed: of everything random: order, splits, noise, words.

    Returns:
        The table's path.
    """
    import soundfile
    from PIL import Image

    generator = np.random.default_rng(seed)
    order = generator.permutation(len(digits)).tolist()
    sentences = hints([digits[place] for place in order], generator)
    bounds = np.cumsum(list(SPLITS.values())) * len(order)
    for name in ("images", "tones"):
        (folder / name).mkdir()
    path = folder / "table.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["id", "split", "digit", "image", "tone", "hint"])
        for number, place in enumerate(order):
            split = list(SPLITS)[int(np.searchsorted(bounds, number, side="right"))]
            image, sound = f"images/{number + 1:04}.png", f"tones/{number + 1:04}.wav"
            Image.fromarray(cover(scans[place], generator)).save(folder / image)
            soundfile.write(folder / sound, tone(digits[place], generator), SAMPLE_RATE, subtype="PCM_16")
            writer.writerow([number + 1, split, digits[place], image, sound, sentences[number]])
    return path
