"""What a frozen encoder gives, computed once: an epoch of a training with it, and gathering many rows of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from harness import interleaved, record
from numpy.typing import NDArray
from setups import CPU, Setup, image_rows, set_up
from torch import nn
from torchvision.models import resnet18

from mmreg import Encoder, Features, Modality, Signal, Spec, registry
from mmreg.data.batches import Batches
from mmreg.data.prepared import Prepared
from mmreg.training.encode_once import encode_once
from mmreg.training.encoding import FrozenInput, Versions
from mmreg.training.kept_features import KeptFeatures
from mmreg.training.loop import Trainer

pytestmark = [pytest.mark.bench, pytest.mark.usefixtures("two_threads")]

ROWS, SIZE, GATHERED, FEATURES = 64, 224, 200_000, 512


class ResNet(Encoder):
    """ResNet-18 less its last layer."""

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.network = resnet18()
        self.network.fc = nn.Identity()
        self.out_features = 512

    def forward(self, signal: Signal) -> Features:
        return Features(pooled=self.network(signal.values))


def trainer(setup: Setup, *, once: bool) -> Trainer:
    """One whose frozen encoders compute in each step, or once before."""
    made, experiment = setup.trainer(), setup.experiment
    if once:
        own = (experiment.plan, made.model, experiment.modalities, setup.prepared, setup.train)
        made.rows.given = encode_once(*own, CPU, torch.float32, None)
        assert set(made.rows.given.plain) == set(setup.prepared)
    return made


def epochs(made: Trainer) -> Callable[[], float]:
    running = made.epochs()

    def run() -> float:
        _, timing, _ = next(running)
        seconds: float = timing["train_seconds"]
        return seconds

    return run


def test_an_epoch_after_the_first_is_far_faster_than_one_that_encodes() -> None:
    registry.register("encoder", "resnet", ResNet)
    rows = [{**row, "text": f"the picture of number {at}"} for at, row in enumerate(image_rows(ROWS, SIZE))]
    modalities: dict[str, Any] = {
        "image": {"size": SIZE, "encoder": {"name": "resnet", "freeze": True}},
        "text": {"encoder": {"name": "text_rnn", "freeze": True}},
    }
    setup = set_up(rows, modalities, batch=32, fusion="concat")
    pairs = interleaved(epochs(trainer(setup, once=True)), epochs(trainer(setup, once=False)), rounds=3)
    against = "an epoch with frozen ResNet-18 and text_rnn in the step"
    record("an epoch of frozen encoders", against, [theirs / ours for ours, theirs in pairs], at_least=50)


class Numbers(Modality):
    """Vectors that are there already."""

    stored = spec = Spec("C", (8,))

    def load(self, value: Any) -> NDArray[Any]:
        return np.asarray(value, np.float32)


class Wide(Encoder):
    """As many features as a ResNet-18 gives."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, FEATURES)
        self.out_features = FEATURES

    def forward(self, signal: Signal) -> Features:
        return Features(pooled=self.layer(signal.values))


def test_features_of_many_rows_are_gathered_at_once(tmp_path: Path) -> None:
    values, everything = np.zeros((GATHERED, 8), np.float32), np.arange(GATHERED)
    known = Prepared(name="it", stored=Numbers.stored, values=values, offsets=None, index=everything, contents="zeros")
    source = FrozenInput("it", known, Numbers(), Wide(), "pooled", CPU, torch.float32, 64)
    made, _ = KeptFeatures(source, {}, tmp_path).get(Versions(everything))
    features = {"it": made(everything, None)}

    def rows_a_second() -> float:
        order = np.array_split(np.random.default_rng().permutation(GATHERED), GATHERED // 64)
        started = time.perf_counter()
        batches = Batches(features, everything, everything, np.ones(GATHERED), order=order, prefetch=True)
        assert sum(batch.size for batch in batches) == GATHERED
        return GATHERED / (time.perf_counter() - started)

    rates = [rows_a_second() for _ in range(6)][1:]  # the first one compares checksums
    record("rows of 512 features a second", "100,000", [rate / 1e5 for rate in rates], at_least=1)
