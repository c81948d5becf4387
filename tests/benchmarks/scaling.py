"""Trains over so many rows of a mapped file, and prints the seconds a row and the anonymous memory as JSON.

Run as `python scaling.py ROWS FOLDER`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
from setups import TINY_IMAGE, image_rows, repeated, set_up

PASSED = 200_000
"""Rows of all epochs together, at least."""


def anonymous_bytes() -> int:
    """The memory of this process that no file is behind."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (kibibytes,) = (int(line.split()[1]) for line in lines if line.startswith("RssAnon"))
    return kibibytes * 1024


def main(count: int, folder: Path) -> None:
    """Train."""
    torch.set_num_threads(1)
    encoder = TINY_IMAGE["encoder"] | {"channels": [2], "features": 4}
    small = set_up(image_rows(64, 8), {"image": TINY_IMAGE | {"encoder": encoder}}, batch=512)
    shape = small.prepared["image"].stored.shape
    path = folder / f"{count}.bin"
    if not path.is_file():
        written = np.lib.format.open_memmap(path, "w+", np.uint8, (count, *shape))
        for start in range(0, count, 10_000):
            written[start : start + 10_000] = np.random.default_rng(start).integers(0, 256, shape, np.uint8)
        del written
    setup = repeated(small, "image", np.load(path, mmap_mode="r"))
    epochs = setup.trainer().epochs()
    seconds = [float(next(epochs)[1]["train_seconds"]) for _ in range(max(1, PASSED // count))]
    print(json.dumps({"seconds": min(seconds) / count, "bytes": anonymous_bytes()}))


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
