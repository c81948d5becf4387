"""Trainings to measure: from rows in memory to a trainer, and images as small as a measurement needs them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import mmreg
from mmreg.data.prepared import Prepared, fit_arrays
from mmreg.data.table import Table
from mmreg.experiment import Experiment, open_experiment, prepare_all
from mmreg.recipe.resolve import resolve
from mmreg.training.loop import Trainer
from mmreg.training.peers import Peers
from mmreg.training.rows import TrainingRows

CLASSES = 20
CPU = torch.device("cpu")
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
"""Pictures and sentences, through plain convolutions and an LSTM."""
TINY_IMAGE: dict[str, Any] = {
    "size": 8,
    "augment": "none",
    "encoder": {
        "name": "image_cnn",
        "channels": [32],
        "normalization": "none",
        "dropout": 0.0,
        "pooling": "flatten",
        "features": 64,
    },
}
"""A branch whose step of 64 rows takes about a millisecond."""


@dataclass(frozen=True)
class Setup:
    """What is trained: an experiment, and the values of its training rows.

    Attributes:
        experiment: table, splits and fitted components.
        prepared: the values by modality.
    """

    experiment: Experiment
    prepared: dict[str, Prepared]

    @property
    def train(self) -> NDArray[np.int64]:
        """The numbers of the training rows."""
        return self.experiment.splits["train"]

    def trainer(self, device: torch.device = CPU, peers: Peers | None = None) -> Trainer:
        """A trainer without validation rows."""
        experiment = self.experiment
        rows = TrainingRows(self.prepared, experiment.targets, experiment.weights, self.train, self.train[:0])
        model = experiment.build_model().to(device)
        parts = experiment.plan, model, experiment.modalities, rows, device, torch.float32, lambda step: None
        return Trainer(*parts, peers=peers)


def set_up(rows: Sequence[Mapping[str, Any]], modalities: Mapping[str, Any], *, batch: int = 64, **keys: Any) -> Setup:
    """Prepare rows that all are for training; `keys` are further ones of the recipe."""
    training = {"batch_size": batch, "epochs": 1000, "schedule": None, "optimizer": {"name": "Adam", "lr": 0.001}}
    recipe = mmreg.Recipe(
        table=list(rows), split="split", target={"column": "label"}, modalities=modalities, training=training, **keys
    )
    experiment = open_experiment(resolve(recipe))
    assert isinstance(experiment.table, Table)
    prepared = prepare_all(experiment.plan, experiment.table, experiment.modalities, None)
    fit_arrays(prepared, experiment.modalities, experiment.splits["train"])
    return Setup(experiment, prepared)


def image_rows(count: int, size: int) -> list[dict[str, Any]]:
    """Rows of random pictures and labels."""
    random = np.random.default_rng(0)
    return [
        {
            "image": random.integers(0, 256, (size, size, 3), dtype=np.uint8),
            "label": number % CLASSES,
            "split": "train",
        }
        for number in range(count)
    ]


def repeated(setup: Setup, name: str, values: NDArray[Any]) -> Setup:
    """The same experiment over as many training rows as there are values, of one modality of a fixed shape."""
    known = setup.prepared[name]
    count = len(values)
    part = Prepared(name=name, stored=known.stored, values=values, offsets=None, index=np.arange(count, dtype=np.int64))
    experiment = setup.experiment
    experiment.targets = np.resize(experiment.targets, count)
    experiment.weights = np.resize(experiment.weights, count)
    experiment.splits["train"] = np.arange(count, dtype=np.int64)
    return Setup(experiment, {name: part})


class BareImages(nn.Module):
    """The model of `TINY_IMAGE`, written by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(32 * 4 * 4, 64),
            nn.Linear(64, CLASSES),
        )

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, 8, 8) to (B, K)."""
        logits: Tensor = self.layers(images)
        return logits
