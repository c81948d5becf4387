"""The conformance checks, and what this balance makes of gradients."""

from collections.abc import Callable

import pytest
import torch

from mmreg import EncoderGradients, registry
from mmreg.testing import parametrize_checks


@parametrize_checks("balance/skeleton")
def test_conformance(check: Callable[[], None]) -> None:
    check()


@pytest.mark.parametrize(("strength", "lengths"), [(0.0, [5.0, 1.0]), (1.0, [3.0, 3.0])])
def test_gradients_are_brought_to_their_mean_length(strength: float, lengths: list[float]) -> None:
    sizes = {"text": 2, "image": 2}
    passed_in = {"num_logits": 2, "num_outputs": 2, "space": "log_probabilities"}
    balance = registry.build("balance", "skeleton", sizes, **passed_in, strength=strength)
    gradients = {"text": [torch.tensor([3.0]), torch.tensor([[4.0]])], "image": [torch.tensor([0.0, 1.0])]}
    balance.modulate({name: EncoderGradients(whole) for name, whole in gradients.items()}, {})
    found = [torch.cat([each.flatten() for each in whole]).norm().item() for whole in gradients.values()]
    assert found == pytest.approx(lengths)
