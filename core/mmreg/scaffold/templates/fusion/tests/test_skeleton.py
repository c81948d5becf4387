"""The conformance checks, and what this operator does with numbers."""

from collections.abc import Callable

import torch

from mmreg import Features, registry
from mmreg.testing import parametrize_checks


@parametrize_checks("fusion/skeleton", options={"features": 8})
def test_conformance(check: Callable[[], None]) -> None:
    check()


def test_the_result_is_the_weighted_sum_of_the_projections_of_what_is_there() -> None:
    fusion = registry.build("fusion", "skeleton", {"a": 2, "b": 3, "c": 1}, features=4)
    with torch.no_grad():
        fusion.importance.copy_(torch.tensor([0.3, -1.0, 2.0]))
    a, b, c = torch.randn(1, 2), torch.randn(1, 3), torch.full((1, 1), torch.nan)
    features = {name: Features(pooled=values) for name, values in {"a": a, "b": b, "c": c}.items()}
    found = fusion(features, torch.tensor([[True, True, False]])).pooled
    weights = fusion.importance[:2].softmax(0)
    expected = weights[0] * fusion.projections[0](a) + weights[1] * fusion.projections[1](b)
    torch.testing.assert_close(found, expected)
