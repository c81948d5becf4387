"""The conformance checks, and what this metric makes of numbers."""

from collections.abc import Callable

import pytest
import torch

from mmreg import registry
from mmreg.testing import parametrize_checks


@parametrize_checks("metric/skeleton")
def test_conformance(check: Callable[[], None]) -> None:
    check()


@pytest.mark.parametrize(("top", "expected"), [(1, 0.25), (2, 0.75), (3, 1.0), (9, 1.0)])
def test_a_row_counts_whose_class_is_among_the_most_probable_ones(top: int, expected: float) -> None:
    probabilities = torch.tensor([[0.7, 0.2, 0.1], [0.5, 0.4, 0.1], [0.5, 0.1, 0.4], [0.6, 0.3, 0.1]])
    metric = registry.build("metric", "skeleton", num_outputs=3, top=top)
    assert metric.compute(probabilities.log(), torch.tensor([0, 1, 2, 2])) == expected
