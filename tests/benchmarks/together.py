"""Trains an epoch for each line on stdin, alone or as one of several processes, and prints what it took as JSON.

Run as `python together.py BATCH_SIZE`, in the environment of torchrun where there are several.
"""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from setups import CLASSES, CPU, SEED_MODEL, set_up

from mmreg.training.joining import joined
from mmreg.training.peers import Peers

STEPS, WORDS = 8, 12
"""Steps of an epoch; words of a text."""
IMAGE = SEED_MODEL["image"]
MODEL = {**SEED_MODEL, "image": {**IMAGE, "encoder": {**IMAGE["encoder"], "pooling": "global"}}}
"""A step of 128 rows takes one thread some 0.08 s; there are few weights for that, as of most convolutions."""


def rows(count: int) -> list[dict[str, Any]]:
    """Random pictures and texts."""
    random = np.random.default_rng(0)
    words = [f"word{number}" for number in range(500)]
    return [
        {
            "image": random.integers(0, 256, (32, 32, 3), dtype=np.uint8),
            "text": " ".join(random.choice(words, WORDS)),
            "label": number % CLASSES,
            "split": "train",
        }
        for number in range(count)
    ]


def main() -> None:
    """Train."""
    torch.set_num_threads(1)
    batch = int(sys.argv[1])
    setup = set_up(rows(STEPS * batch), MODEL, batch=batch, fusion="concat")
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1  # what one process does by itself is the measure
    with joined("cpu") if several else nullcontext((Peers(), CPU)) as (peers, device):
        trainer = setup.trainer(device, peers)
        if several:  # as a training asks, in which a signal may end one of them
            trainer.between_steps = lambda: _end(peers)
        epochs = trainer.epochs()
        print("ready", flush=True)
        for _ in sys.stdin:
            used = time.process_time()
            seconds = float(next(epochs)[1]["train_seconds"])
            print(json.dumps({"seconds": seconds, "cpu": time.process_time() - used}), flush=True)
    sys.stdout.flush()
    os._exit(0)


def _end(peers: Peers) -> None:
    if peers.any(False):
        raise KeyboardInterrupt


if __name__ == "__main__":
    main()
