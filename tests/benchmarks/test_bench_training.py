"""How fast the training loop is beside a bare PyTorch loop over tensors in memory, with the same model."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from harness import compare, interleaved, record
from setups import CLASSES, SEED_MODEL, TINY_IMAGE, BareImages, Setup, image_rows, set_up
from torch import Tensor, nn

from mmreg.model.devices import resolve_device

pytestmark = [pytest.mark.bench, pytest.mark.usefixtures("two_threads")]

PAIRS = 31  # short ones: a noisy machine disturbs few of them, and the median none
ROWS, BATCH, WORDS = 640, 64, 12


class Bare(nn.Module):
    """The same model, written by hand."""

    def __init__(self, words: int) -> None:
        super().__init__()
        self.cnn = nn.Sequential(
            nn.Conv2d(3, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(64 * 8 * 8, 128),
        )
        self.embedding = nn.Embedding(words, 100, padding_idx=0)
        self.lstm = nn.LSTM(100, 100, num_layers=2, batch_first=True)
        self.linear = nn.Linear(100, 128)
        self.head = nn.Linear(256, CLASSES)

    def forward(self, images: Tensor, tokens: Tensor) -> Tensor:
        text = self.linear(self.lstm(self.embedding(tokens))[0][:, -1])
        logits: Tensor = self.head(torch.cat([self.cnn(images), text], 1))
        return logits


def rows() -> list[dict[str, Any]]:
    random = np.random.default_rng(0)
    words = [f"word{number}" for number in range(500)]
    return [
        {
            "image": random.integers(0, 256, (32, 32, 3), dtype=np.uint8),
            "text": " ".join(random.choice(words, WORDS)),
            "label": int(random.integers(CLASSES)),
            "split": "train",
        }
        for _ in range(ROWS)
    ]


def loop(setup: Setup, bare: nn.Module, inputs: list[Tensor], labels: Tensor) -> Callable[[], float]:
    """Epochs of a bare loop over tensors in memory; gives the seconds of each."""
    optimizer = torch.optim.Adam(bare.parameters(), lr=0.001)
    loss = nn.CrossEntropyLoss()

    def epoch() -> float:
        started = time.perf_counter()
        total = torch.zeros((), device=labels.device)
        for index in torch.randperm(len(labels)).split(BATCH):
            index = index.to(labels.device)
            optimizer.zero_grad()
            value = loss(bare(*(each[index] for each in inputs)), labels[index])
            value.backward()
            optimizer.step()
            total += value.detach()
        total.item()
        return time.perf_counter() - started

    return epoch


def own_loop(setup: Setup) -> Callable[[], float]:
    """Epochs of the trainer; gives the seconds of each."""
    epochs = setup.trainer(resolve_device()).epochs()
    return lambda: float(next(epochs)[1]["train_seconds"])


def seed_model() -> tuple[Callable[[], float], Callable[[], float]]:
    """Epochs of the seed's model, and of a bare loop with the same."""
    setup, device = set_up(rows(), SEED_MODEL, batch=BATCH, fusion="concat"), resolve_device()
    images = setup.prepared["image"].gather(setup.train).values.float().div(255).sub(0.5).to(device)
    tokens = setup.prepared["text"].gather(setup.train).values.long().to(device)
    labels = torch.from_numpy(setup.experiment.targets).to(device)
    bare = Bare(int(tokens.max()) + 1).to(device)
    return own_loop(setup), loop(setup, bare, [images, tokens], labels)


def test_the_seed_model_trains_as_fast_as_in_a_bare_loop() -> None:
    compare("training loop, seed model", "bare loop", *seed_model(), rounds=PAIRS, at_least=0.97)


def test_a_model_of_a_millisecond_trains_nearly_as_fast_as_in_a_bare_loop() -> None:
    device = resolve_device()
    setup = set_up(image_rows(20 * BATCH, 8), {"image": TINY_IMAGE}, batch=BATCH)
    images = setup.prepared["image"].gather(setup.train).values.float().div(255).sub(0.5).to(device)
    labels = torch.from_numpy(setup.experiment.targets).to(device)
    theirs = loop(setup, BareImages().to(device), [images], labels)
    compare("training loop, a model of 1 ms", "bare loop", own_loop(setup), theirs, rounds=PAIRS, at_least=0.9)


def test_a_busy_core_costs_little() -> None:
    ours, _ = seed_model()

    def disturbed() -> float:
        other = subprocess.Popen([sys.executable, "-c", "while True: pass"])
        try:
            return ours()
        finally:
            other.kill()
            other.wait()

    pairs = interleaved(disturbed, ours, rounds=PAIRS // 3)
    record("training loop beside a busy core", "alone", [beside / alone for beside, alone in pairs], at_most=1.05)
