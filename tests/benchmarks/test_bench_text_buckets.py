"""How much faster a training is on texts of 1 to 2,000 tokens with rows of similar length together, at no loss."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from harness import compare

from mmreg.data.prepared import fit_arrays
from mmreg.experiment import open_experiment, prepare_all
from mmreg.model.devices import resolve_device
from mmreg.recipe.recipe import read_recipe
from mmreg.recipe.resolve import resolve
from mmreg.training.loop import Trainer, TrainingRows

ROWS, VALIDATION, BATCH, LONGEST = 512, 128, 32, 2000
EPOCHS = 6


def table(rows: int) -> list[dict[str, Any]]:
    """Texts whose lengths are spread evenly over the orders of magnitude; the class is the word that comes often."""
    random = np.random.default_rng(0)
    words = np.array([f"word{number}" for number in range(200)])
    signs = np.array(["red", "green", "blue", "grey"])
    found = []
    for length in np.exp(random.uniform(0, np.log(LONGEST), rows)).astype(int).tolist():
        label = int(random.integers(len(signs)))
        text = np.where(random.random(length) < 0.3, signs[label], random.choice(words, length))
        text[random.integers(length)] = signs[label]
        found.append({"text": " ".join(text), "label": str(signs[label])})
    return found


def trainer(folder: Path, bucket: bool, epochs: int) -> Trainer:
    """A training of these texts, ready to begin."""
    rows = table(ROWS + VALIDATION)
    recipe = {
        "table": [{**row, "split": "train" if at < ROWS else "validation"} for at, row in enumerate(rows)],
        "split": "split",
        "target": {"column": "label"},
        "modalities": {
            "text": {
                "max_tokens": LONGEST,
                # In one direction, where padding is computed as well; of both, packed sequences spare most of it.
                "encoder": {
                    "name": "text_rnn",
                    "embedding_size": 32,
                    "hidden_size": 32,
                    "num_layers": 1,
                    "bidirectional": False,
                },
            }
        },
        "training": {
            "epochs": epochs,
            "batch_size": BATCH,
            "bucket": bucket,
            "optimizer": {"name": "Adam", "lr": 0.02},
        },
    }
    plan = resolve(read_recipe(recipe))
    experiment = open_experiment(plan)
    prepared = prepare_all(plan, experiment.table, experiment.modalities, folder)
    fit_arrays(prepared, experiment.modalities, experiment.splits["train"])
    train, validation = experiment.splits["train"], experiment.splits["validation"]
    known = TrainingRows(prepared, experiment.targets, experiment.weights, train, validation)
    device = resolve_device("cpu")
    return Trainer(plan, experiment.build_model(), experiment.modalities, known, device, torch.float32, lambda _: None)


@pytest.mark.bench
def test_texts_of_similar_length_together_train_twice_as_fast(tmp_path: Path) -> None:
    epochs: dict[bool, Iterator[Any]] = {way: trainer(tmp_path, way, 100).epochs() for way in (True, False)}

    def train_seconds(bucket: bool) -> float:
        return float(next(epochs[bucket])[1]["train_seconds"])

    compare(
        "text of 1 to 2,000 tokens, similar lengths together",
        "padded to the longest",
        lambda: train_seconds(True),
        lambda: train_seconds(False),
        rounds=5,
        at_least=2.0,
    )


@pytest.mark.bench
def test_texts_of_similar_length_together_are_learned_as_well(tmp_path: Path) -> None:
    best = {}
    for bucket in (True, False):
        last = [epoch for epoch, _, _ in trainer(tmp_path, bucket, EPOCHS).epochs()][-3:]
        best[bucket] = max(epoch.get("validation", "accuracy") or 0.0 for epoch in last)
    assert best[False] > 0.8, best
    assert best[True] > best[False] - 0.03, best
