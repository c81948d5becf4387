"""A ragged toy modality and an encoder that gives tokens, for the tests of this folder."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mmreg import Encoder, Features, Modality, Signal, Spec, registry
from mmreg.contract.interfaces import Outputs
from mmreg.layers import length_mask, masked_mean


class Steps(Modality):
    """Vectors of four numbers in a row, any number of them."""

    def load(self, value: Any) -> NDArray[Any]:
        return np.asarray(value, np.float32).reshape(-1, 4)

    @property
    def stored(self) -> Spec:
        return Spec("TC", (None, 4))

    @property
    def spec(self) -> Spec:
        return self.stored


class PerStep(Encoder):
    """A linear map of each step.

    Args:
        features: the size of the result.
    """

    provides = frozenset({"pooled", "tokens"})

    def __init__(self, spec: Spec, *, features: int = 8, outputs: Outputs = "pooled") -> None:
        super().__init__()
        size = spec.size("C")
        assert size is not None
        self.layer = nn.Linear(size, features)
        self.outputs = outputs
        self.out_features = features

    def forward(self, signal: Signal) -> Features:
        assert signal.lengths is not None
        tokens: Tensor = self.layer(signal.values).relu()
        mask = length_mask(signal.lengths, tokens.shape[1])
        if self.outputs == "tokens":
            return Features(tokens=tokens, mask=mask)
        return Features(pooled=masked_mean(tokens, mask))


def register() -> None:
    registry.register("modality", "steps", Steps)
    registry.register("encoder", "each_step", PerStep)


def rows(table: list[dict[str, Any]], seed: int = 0) -> list[dict[str, Any]]:
    """The same rows, each vector repeated one to five times with some noise."""
    random = np.random.default_rng(seed)
    found = []
    for row in table:
        row = dict(row)
        for name in "ab":
            count = random.integers(1, 6)
            noise = random.normal(0, 0.1, (count, 4))
            if row[name] is not None:
                row[name] = (np.array(row[name]) + noise).ravel().tolist()
        found.append(row)
    return found


def generators(count: int, seed: int = 0) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(1000 * seed + row) for row in range(count)]
