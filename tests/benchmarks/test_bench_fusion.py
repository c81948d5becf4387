"""What each fusion operator costs beside concat: forward and backward, 64 rows, 3 modalities of 256 features."""

from __future__ import annotations

import statistics
import time
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mmreg import Features, registry

B, M, D, K, T = 64, 3, 256, 10, 8
NAMES = ["image", "text", "audio"]
OPTIONS: dict[str, dict[str, Any]] = {
    "tensor": {"project": 32},  # the raw product of three vectors of 256 is refused, as too large
    "bilinear": {"project": 64},
    "multiplicative": {"form": "vector"},
}


def step(name: str) -> Any:
    """A function that fuses a batch once and goes back."""
    torch.manual_seed(0)
    level = registry.find("fusion", name).spec.level
    present = torch.ones(B, M, dtype=torch.bool)
    inputs: list[Tensor] = []

    def leaf(*shape: int) -> Tensor:
        inputs.append(torch.randn(*shape, requires_grad=True))
        return inputs[-1]

    if level == "feature":
        options = OPTIONS.get(name, {})
        fusion: nn.Module = registry.build("fusion", name, dict.fromkeys(NAMES, D), **options)
        tokens = getattr(fusion, "takes", "pooled") == "tokens"
        features = {n: Features(tokens=leaf(B, T, D)) if tokens else Features(pooled=leaf(B, D)) for n in NAMES}

        def call() -> Tensor:
            result: Tensor = fusion(features, present).pooled
            return result
    else:
        sizes = dict.fromkeys(NAMES, D)
        fusion = registry.build("fusion", name, sizes, num_outputs=K, space="log_probabilities")
        scores = {n: leaf(B, K) for n in NAMES}
        vectors = {n: leaf(B, D) for n in NAMES}

        def call() -> Tensor:
            result: Tensor = fusion({n: s.log_softmax(1) for n, s in scores.items()}, present, vectors).scores
            return result

    def run() -> None:
        call().square().sum().backward()
        for tensor in inputs:
            tensor.grad = None
        fusion.zero_grad()

    return run


def milliseconds(run: Any) -> float:
    started = time.perf_counter()
    for _ in range(3):
        run()
    return (time.perf_counter() - started) / 3 * 1000


@pytest.mark.bench
def test_every_operator_beside_concat() -> None:
    torch.set_num_threads(1)
    concat = step("concat")
    concat()
    print(f"\nforward and backward beside concat, B={B}, n={M}, D={D} (tokens: {T} each), one thread")
    for name in registry.names("fusion"):
        run = step(name)
        run()
        pairs = [(milliseconds(run), milliseconds(concat)) for _ in range(3)]
        ratio = statistics.median(ours / theirs for ours, theirs in pairs)
        print(f"  {name:20s} {statistics.median(ours for ours, _ in pairs):8.2f} ms  {ratio:8.1f} x concat")
