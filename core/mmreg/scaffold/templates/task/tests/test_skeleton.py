"""The conformance checks, and what this task does with numbers."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from mmreg import registry
from mmreg.testing import parametrize_checks

TARGETS = [0.5, -20.0, 3000.0, 7.0, 0.0, 150.0, -2.0, 1e5]


@parametrize_checks("task/skeleton", targets=TARGETS)
def test_conformance(check: Callable[[], None]) -> None:
    check()


def test_targets_are_on_an_asinh_scale_and_errors_in_the_columns_units() -> None:
    task = registry.build("task", "skeleton")
    task.fit([10.0, -20.0, 30.0])
    encoded = task.encode([10.0, -20.0, 30.0])
    np.testing.assert_allclose(encoded[:, 0], np.arcsinh([0.5, -1, 1.5]), rtol=1e-6)
    scores = torch.tensor(task.encode([11.0, -20.0, 25.0]))
    result = task.evaluate(scores, torch.from_numpy(encoded))
    assert result == pytest.approx({"median_absolute_error": 1.0, "mean_absolute_error": 2.0}, rel=1e-5)
