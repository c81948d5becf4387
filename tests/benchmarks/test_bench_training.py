"""How fast the training loop is beside a bare PyTorch loop over tensors in memory, with the same model."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from harness import compare
from torch import Tensor, nn

import mmreg
from mmreg.data.prepared import fit_arrays
from mmreg.data.table import Table
from mmreg.experiment import open_experiment, prepare_all
from mmreg.model.devices import resolve_device
from mmreg.recipe.resolve import resolve
from mmreg.training.loop import Trainer, TrainingRows

PAIRS = 31  # short ones: a noisy machine disturbs few of them, and the median none
ROWS, BATCH, CLASSES, WORDS = 640, 64, 20, 12
SEED_MODEL: dict[str, Any] = {
    "image": {
        "size": 32,
        "augment": "none",
        "encoder": {
            "name": "image_cnn",
            "channels": [32, 64],
            "normalization": "none",
            "dropout": 0.0,
            "pooling": "flatten",
            "features": 128,
        },
    },
    "text": {
        "token_dropout": 0.0,
        "encoder": {
            "name": "text_rnn",
            "embedding_size": 100,
            "hidden_size": 100,
            "num_layers": 2,
            "bidirectional": False,
            "dropout": 0.0,
            "pooling": "last",
            "features": 128,
        },
    },
}


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


@pytest.mark.bench
def test_training_is_as_fast_as_a_bare_loop(tmp_path: Path) -> None:
    torch.set_num_threads(2)
    recipe = mmreg.Recipe(
        table=rows(),
        split="split",
        target={"column": "label"},
        modalities=SEED_MODEL,
        fusion="concat",
        training={"batch_size": BATCH, "epochs": 100, "schedule": None, "optimizer": {"name": "Adam", "lr": 0.001}},
    )
    experiment = open_experiment(resolve(recipe))
    assert isinstance(experiment.table, Table)
    prepared = prepare_all(experiment.plan, experiment.table, experiment.modalities, None)
    train = experiment.splits["train"]
    fit_arrays(prepared, experiment.modalities, train)
    device = resolve_device()
    trainer = Trainer(
        experiment.plan,
        experiment.build_model().to(device),
        experiment.modalities,
        TrainingRows(prepared, experiment.targets, experiment.weights, train, train[:0]),
        device,
        torch.float32,
        lambda step: None,
    )
    images = prepared["image"].gather(train).values.float().div(255).sub(0.5).to(device)
    tokens = prepared["text"].gather(train).values.long().to(device)
    labels = torch.from_numpy(experiment.targets).to(device)
    bare = Bare(int(tokens.max()) + 1).to(device)
    optimizer = torch.optim.Adam(bare.parameters(), lr=0.001)
    loss = nn.CrossEntropyLoss()
    epochs = trainer.epochs()

    def ours() -> float:
        return float(next(epochs)[1]["train_seconds"])

    def theirs() -> float:
        started = time.perf_counter()
        total = 0.0
        for index in torch.randperm(ROWS).split(BATCH):
            index = index.to(device)
            optimizer.zero_grad()
            value = loss(bare(images[index], tokens[index]), labels[index])
            value.backward()
            optimizer.step()
        total += value.item()
        return time.perf_counter() - started

    compare("training loop, seed model", "bare loop", ours, theirs, rounds=PAIRS, at_least=0.97)
