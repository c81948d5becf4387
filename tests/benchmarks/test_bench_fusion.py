"""What each fusion operator costs: forward and backward, 64 rows, 3 modalities of 256 features.

Beside `concat`, and beside the same formula on the same weights as one writes it down, modality by modality
(fusion_references.py), whose result has to be the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
from fusion_references import FEATURE_LEVEL, MODEL_LEVEL
from harness import record
from torch import Tensor, nn

from mmreg import Features, registry

pytestmark = pytest.mark.usefixtures("one_thread")

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


@pytest.mark.bench
@pytest.mark.parametrize("name", registry.names("fusion"))
def test_an_operator_beside_its_formula_and_concat(name: str) -> None:
    ours, theirs, leaves = calls(name)
    torch.testing.assert_close(ours(), theirs(), rtol=1e-3, atol=1e-4)
    run, reference, concat = step(ours, leaves), step(theirs, leaves), step(*calls("concat")[::2])
    for warm in (run, reference, concat):
        warm()
    times = [tuple(milliseconds(each) for each in (run, reference, concat)) for _ in range(5)]
    if name != "concat":
        record(f"fusion {name} beside concat", "concat", [mine / other for mine, _, other in times])
    record(f"fusion {name}", "its formula unfused", [mine / other for mine, other, _ in times], at_most=LIMIT)
