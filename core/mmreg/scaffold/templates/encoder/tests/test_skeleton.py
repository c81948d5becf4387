"""The conformance checks, and what this encoder does with numbers."""

from collections.abc import Callable

import torch

from mmreg import Signal, Spec, registry
from mmreg.testing import parametrize_checks


@parametrize_checks("encoder/skeleton", options={"hidden": 8, "features": 6})
def test_conformance(check: Callable[[], None]) -> None:
    check()


def test_the_result_is_the_mean_over_the_valid_steps() -> None:
    encoder = registry.build("encoder", "skeleton", Spec("TC", (None, 3))).eval()
    values = torch.randn(1, 5, 3)
    each = [encoder(Signal(values[:, [step]])).pooled for step in range(4)]
    found = encoder(Signal(values, torch.tensor([4]))).pooled
    torch.testing.assert_close(found, torch.stack(each).mean(0))
