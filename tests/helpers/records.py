"""A toy modality of several columns that stores several arrays, and an encoder of these."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mmreg import VECTOR, Encoder, Features, Modality, Signal, Spec, registry
from mmreg.errors import MmregError, SpecError, ValueLoadError


class Records(Modality):
    """Numbers and categories; which columns hold which is seen in the training rows.

    Args:
        noise: the deviation of noise that training adds to the numbers.
    """

    multiple_columns = True
    transform_options = frozenset({"noise"})
    default_encoder = "record_mlp"

    def __init__(self, *, noise: float = 0.0) -> None:
        self.noise = noise
        self._words: dict[str, list[str]] | None = None
        self._mean: list[float] = []

    @classmethod
    def suggest_columns(
        cls, columns: Mapping[str, Sequence[Any]]
    ) -> tuple[Sequence[str], Mapping[str, tuple[Any, str]]] | None:
        plain = [name for name, values in columns.items() if all(isinstance(value, int | float) for value in values)]
        few = [name for name, values in columns.items() if name not in plain and len(set(values)) < 10]
        return ([*plain, *few], {"noise": (0.1, f"{len(plain)} of numbers")}) if plain else None

    def fit_values(self, values: Iterator[Any]) -> None:
        seen: dict[str, set[str]] = {}
        for row in values:
            for column, cell in row.items():
                if isinstance(cell, str):
                    seen.setdefault(column, set()).add(cell)
        self._words = {column: sorted(seen[column]) for column in self.columns if column in seen}

    def _known(self) -> dict[str, list[str]]:
        if self._words is None:
            raise MmregError("this modality knows no columns yet: call fit_values or load_state first")
        return self._words

    @property
    def stored(self) -> Mapping[str, Spec]:
        words = self._known()
        return {
            "numbers": Spec(VECTOR, (len(self.columns) - len(words),)),
            "categories": Spec(VECTOR, (len(words),), "int64", 1 + sum(map(len, words.values()))),
        }

    @property
    def spec(self) -> Mapping[str, Spec]:
        return self.stored

    def load(self, value: Any) -> Mapping[str, NDArray[Any]]:
        words = self._known()
        if not isinstance(value, dict):
            raise ValueLoadError(f"it is a {type(value).__name__}, where a dict of columns is needed")
        numbers, categories, first = [], [], 1
        for column in self.columns:
            cell = value.get(column)
            if column in words:
                categories.append(first + words[column].index(cell) if cell in words[column] else 0)
                first += len(words[column])
            elif isinstance(cell, int | float | None):
                numbers.append(cell or 0)
            else:
                raise ValueLoadError(f"column {column} holds {cell!r}, where a number is needed")
        return {"numbers": np.array(numbers, np.float32), "categories": np.array(categories, np.int64)}

    def load_state_key(self) -> Any:
        return self._words

    def fit_arrays(self, arrays: Iterator[Any]) -> None:
        numbers = [array["numbers"] for array in arrays]
        self._mean = np.mean(numbers, 0).tolist() if numbers else [0.0] * (self.stored["numbers"].size("C") or 0)

    def transform(
        self, signal: Signal[dict[str, Tensor]], *, training: bool, generator: torch.Generator | None = None
    ) -> Signal[dict[str, Tensor]]:
        numbers = signal.values["numbers"]
        numbers = numbers - numbers.new_tensor(self._mean)
        if training and self.noise:
            numbers = numbers + self.noise * torch.randn(numbers.shape, generator=generator, device=numbers.device)
        return signal.replace({**signal.values, "numbers": numbers})

    def state(self) -> dict[str, Any]:
        return {"words": self._known(), "mean": self._mean}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self._words, self._mean = dict(state["words"]), list(state["mean"])


class RecordMLP(Encoder):
    """A linear map of the numbers and of the sum of the categories' embeddings.

    Args:
        features: the size of the result.
    """

    multiple_arrays = True

    def __init__(self, spec: Mapping[str, Spec], *, features: int = 8) -> None:
        super().__init__()
        if reason := self.accepts(spec, {}):
            raise SpecError(f"record_mlp does not take {spec}: {reason}")
        words, numbers = spec["categories"].vocabulary_size, spec["numbers"].size("C")
        assert words is not None
        assert numbers is not None
        self.words = nn.EmbeddingBag(words, features, mode="sum")
        self.numbers = nn.Linear(numbers, features)
        self.out = nn.Linear(features, features)
        self.out_features = features

    @classmethod
    def accepts(cls, spec: Spec | Mapping[str, Spec], options: Mapping[str, Any]) -> str | None:
        return None if not isinstance(spec, Spec) and {*spec} == {"numbers", "categories"} else "it takes records"

    def forward(self, signal: Signal[dict[str, Tensor]]) -> Features:
        values = signal.values
        return Features(pooled=self.out((self.numbers(values["numbers"]) + self.words(values["categories"])).tanh()))


def register() -> None:
    """Make the toys known; harmless when repeated."""
    registry.register("modality", "records", Records)
    registry.register("encoder", "record_mlp", RecordMLP)


def rows(count: int = 120, seed: int = 0) -> list[dict[str, Any]]:
    """A number, a category and a vector, of which the first two tell a class of four."""
    random = np.random.default_rng(seed)
    table = []
    for number in range(count):
        first, second = random.integers(2, size=2).tolist()
        table.append(
            {
                "id": f"r{number}",
                "price": round(4 * first + float(random.normal()), 3) if random.random() > 0.1 else None,
                "brand": ["acme", "best"][second] if random.random() > 0.1 else None,
                "weight": float(random.integers(5)),
                "a": random.normal(0, 1, 4).tolist(),
                "label": "wxyz"[2 * first + second],
                "split": "train" if number < 0.6 * count else "validation" if number < 0.8 * count else "test",
            }
        )
    return table


COLUMNS = ["price", "brand", "weight"]


def recipe(table: Any, **changes: Any) -> dict[str, Any]:
    """A recipe over such rows, of the records beside a vector."""
    return {
        "table": table,
        "split": "split",
        "target": {"column": "label"},
        "modalities": {"record": {"type": "records", "columns": COLUMNS, "noise": 0.1}, "a": {"type": "numbers"}},
        "fusion": "concat",
        "training": {"epochs": 3, "batch_size": 16, "optimizer": {"name": "Adam", "lr": 0.02}, "deterministic": True},
        **changes,
    }
