"""Small components and tables with which the framework is tested apart from the bundled plugins."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import mmreg
from mmreg import Encoder, Features, Modality, Signal, Spec, registry, runs
from mmreg.errors import ValueLoadError
from mmreg.training.stopping import Stop, Stopped

NOISY: dict[str, Any] = {
    "modalities": {
        name: {"type": "numbers", "noise": 0.1, "encoder": {"name": "linear", "dropout": 0.2}} for name in "ab"
    },
    "fusion": "weighted",
}
"""Changes of a recipe that make it draw random numbers."""


class Numbers(Modality):
    """A vector of numbers.

    Args:
        size: how many.
        noise: the deviation of noise that training adds.
    """

    transform_options = frozenset({"noise"})
    unaugmented: ClassVar[Mapping[str, Any] | None] = {"noise": 0.0}
    default_encoder = "linear"

    def __init__(self, *, size: int = 4, noise: float = 0.0) -> None:
        self.size, self.noise = size, noise
        self.mean = 0.0

    def load(self, value: Any) -> NDArray[Any]:
        array = np.asarray(value, np.float32)
        if array.shape != (self.size,):
            raise ValueLoadError(f"it has the shape {array.shape}, not ({self.size},)")
        return array

    def fit_arrays(self, arrays: Iterator[NDArray[Any]]) -> None:
        self.mean = float(np.mean(list(arrays)))

    def transform(self, signal: Signal, *, training: bool, generator: torch.Generator | None = None) -> Signal:
        values = signal.values - self.mean
        if training and self.noise:
            values = values + self.noise * torch.randn(values.shape, generator=generator)
        return Signal(values)

    @property
    def stored(self) -> Spec:
        return Spec("C", (self.size,))

    @property
    def spec(self) -> Spec:
        return Spec("C", (self.size,))

    def state(self) -> dict[str, Any]:
        return {"mean": self.mean}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.mean = state["mean"]

    def load_state_key(self) -> Any:
        return None


class Linear(Encoder):
    """A linear map with batch normalisation and dropout.

    Args:
        features: the size of the result.
        dropout: the share of values dropped.
    """

    def __init__(self, spec: Spec, *, features: int = 8, dropout: float = 0.0) -> None:
        super().__init__()
        size = spec.size("C")
        assert size is not None
        self.layer = nn.Linear(size, features)
        self.norm = nn.BatchNorm1d(features)
        self.dropout = nn.Dropout(dropout)
        self.out_features = features

    @classmethod
    def accepts(cls, spec: Spec, options: Mapping[str, Any]) -> str | None:
        return None if spec.axes == "C" else "it takes vectors (C)"

    def forward(self, signal: Signal) -> Features:
        values: Tensor = self.layer(signal.values)
        if len(values) > 1 or not self.training:
            values = self.norm(values)
        return Features(pooled=self.dropout(values).relu())


class Counting(Linear):
    """Counts the rows that it encodes."""

    rows: ClassVar[list[int]] = []

    def forward(self, signal: Signal) -> Features:
        self.rows.append(len(signal))
        return super().forward(signal)


def register() -> None:
    """Make the toys known; harmless when repeated."""
    registry.register("modality", "numbers", Numbers)
    registry.register("encoder", "linear", Linear)
    registry.register("encoder", "counting", Counting)


def rows(count: int = 200, seed: int = 0, absent: float = 0.0) -> list[dict[str, Any]]:
    """Two vectors, each of which tells one bit of a class of four."""
    random = np.random.default_rng(seed)
    table = []
    for number in range(count):
        a, b = random.integers(2, size=2)
        row: dict[str, Any] = {
            "id": f"r{number}",
            "a": (random.normal(0, 0.5, 4) + 2 * a).tolist(),
            "b": (random.normal(0, 0.5, 4) + 2 * b).tolist(),
            "label": "wxyz"[2 * a + b],
            "split": "train" if number < 0.6 * count else "validation" if number < 0.8 * count else "test",
        }
        for name in "ab":
            if random.random() < absent:
                row[name] = None
        table.append(row)
    return table


def recipe(table: Any, **changes: Any) -> dict[str, Any]:
    """A recipe over such rows."""
    return {
        "table": table,
        "split": "split",
        "target": {"column": "label"},
        "modalities": {"a": {"type": "numbers"}, "b": {"type": "numbers"}},
        "fusion": "concat",
        "training": {"epochs": 3, "batch_size": 16, "optimizer": {"name": "Adam", "lr": 0.01}, "deterministic": True},
        **changes,
    }


def train(folder: Path, table: Any = None, **changes: Any) -> mmreg.Run:
    """Train on such rows; changes are of the recipe, or are options of the training."""
    keys = ("overrides", "resume", "accept_changes", "overwrite", "callback", "stop")
    options = {key: changes.pop(key) for key in keys if key in changes}
    return mmreg.train(recipe(table or rows(), **changes), folder, device="cpu", **options)


class Listening(mmreg.Callback):
    """Keeps what it is told, and stops the training after a step."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.messages: list[str] = []
        self.stop_after = stop_after

    def on_message(self, text: str) -> None:
        self.messages.append(text)

    def on_step(self, step: Any) -> None:
        if step.step == self.stop_after:
            raise KeyboardInterrupt


def assert_same(one: Path, two: Path) -> None:
    """Two runs have the same figures and weights, bit for bit."""
    assert (one / runs.METRICS).read_bytes() == (two / runs.METRICS).read_bytes()
    first, second = (runs.read_weights(place / runs.WEIGHTS) for place in (one, two))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)


class Ticking:
    """A clock that a step moves on."""

    def __init__(self, seconds: float) -> None:
        self.now, self.seconds = 0.0, seconds

    def __call__(self) -> float:
        self.now += self.seconds
        return self.now


class StopAt(mmreg.Callback):
    """Wishes the training to end at a step."""

    def __init__(self, step: int) -> None:
        self.stop, self.step = Stop(), step

    def on_step(self, step: Any) -> None:
        self.stop.wanted |= step.step == self.step


def stopped_at(folder: Path, step: int, **settings: Any) -> Stopped:
    """Go on with a training up to a step."""
    callback = StopAt(step)
    with pytest.raises(Stopped) as caught:
        train(folder, resume=True, callback=callback, stop=callback.stop, **settings)
    return caught.value
