"""What each fusion operator costs: forward and backward, 64 rows, 3 modalities of 256 features.

Beside `concat`, and beside the same formula on the same weights as one writes it down, modality by modality
(fusion_references.py), whose result has to be the same.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
from fusion_references import FEATURE_LEVEL, MODEL_LEVEL
from torch import Tensor, nn

from mmreg import Features, registry

B, M, D, K, T = 64, 3, 256, 10, 8
NAMES = ["image", "text", "audio"]
OPTIONS: dict[str, dict[str, Any]] = {
    "tensor": {"project": 32},  # the raw product of three vectors of 256 is refused, as too large
    "bilinear": {"project": 64},
    "multiplicative": {"form": "vector"},
}
LIMIT = 3.0
"""How many times slower than its reference an operator may be."""

Call = Callable[[], Tensor]


def calls(name: str) -> tuple[Call, Call, list[Tensor]]:
    """A function that fuses a batch, its reference, and the tensors that get gradients."""
    torch.manual_seed(0)
    level = registry.find("fusion", name).spec.level
    present = torch.ones(B, M, dtype=torch.bool)
    vectors = [torch.randn(B, D, requires_grad=True) for _ in NAMES]
    if level == "feature":
        fusion: nn.Module = registry.build("fusion", name, dict.fromkeys(NAMES, D), **OPTIONS.get(name, {})).eval()
        if getattr(fusion, "takes", "pooled") == "tokens":
            vectors = [torch.randn(B, T, D, requires_grad=True) for _ in NAMES]
            features = {n: Features(tokens=x) for n, x in zip(NAMES, vectors, strict=True)}
        else:
            features = {n: Features(pooled=x) for n, x in zip(NAMES, vectors, strict=True)}
        feature_level = FEATURE_LEVEL[name]
        leaves = [*vectors, *fusion.parameters()]
        return lambda: fusion(features, present).pooled, lambda: feature_level(fusion, vectors), leaves
    fusion = registry.build("fusion", name, dict.fromkeys(NAMES, D), num_outputs=K, space="log_probabilities").eval()
    logits = [torch.randn(B, K) for _ in NAMES]
    known = [x.exp().log1p() if name == "evidential" else x.log_softmax(1) for x in logits]
    scores = [x.requires_grad_() for x in known]
    named = dict(zip(NAMES, scores, strict=True))
    if fusion.fitted:
        fusion.fit(named, present, torch.arange(B) % K)
    with torch.no_grad():
        for parameter in fusion.parameters():
            parameter.normal_(std=0.1)  # some start at zero
    model_level = MODEL_LEVEL[name]
    by_name = dict(zip(NAMES, vectors, strict=True))
    leaves = [*scores, *(vectors if fusion.uses_features else ()), *fusion.parameters()]
    return lambda: fusion(named, present, by_name).scores, lambda: model_level(fusion, scores, vectors), leaves


def step(call: Call, leaves: list[Tensor]) -> Callable[[], None]:
    """A function that calls once and goes back."""

    def run() -> None:
        call().square().sum().backward()  # type: ignore[no-untyped-call]
        for leaf in leaves:
            leaf.grad = None

    return run


def milliseconds(run: Callable[[], None]) -> float:
    """Of one run, over at least 20 ms."""
    repeats, started = 0, time.perf_counter()
    while repeats < 2 or time.perf_counter() - started < 0.02:
        run()
        repeats += 1
    return (time.perf_counter() - started) / repeats * 1000


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.bench
def test_every_operator_beside_concat_and_its_formula() -> None:
    concat = step(*calls("concat")[::2])
    slow = []
    print(f"\nforward and backward, B={B}, n={M}, D={D} (tokens: {T} each), one thread")
    for name in registry.names("fusion"):
        ours, theirs, leaves = calls(name)
        torch.testing.assert_close(
            ours(), theirs(), rtol=1e-3, atol=1e-4, msg=lambda text, name=name: f"{name}: {text}"
        )
        run, reference = step(ours, leaves), step(theirs, leaves)
        for warm in (run, reference, concat):
            warm()
        times = [tuple(milliseconds(each) for each in (run, reference, concat)) for _ in range(5)]
        cost, _, beside = (statistics.median(column) for column in zip(*times, strict=True))
        ratio = statistics.median(mine / other for mine, other, _ in times)
        print(f"  {name:20s} {cost:8.2f} ms  {cost / beside:8.1f} x concat  {ratio:6.2f} x its formula unfused")
        if ratio > LIMIT:
            slow.append(name)
    assert not slow, f"more than {LIMIT} times as slow as their formulas: {', '.join(slow)}"
