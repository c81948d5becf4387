"""Small batches of the parts' predictions, shared by the tests of the model-level operators."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from mmreg.contract.task import Space


@dataclass
class Batch:
    scores: dict[str, Tensor]
    present: Tensor
    features: dict[str, Tensor]
    inputs: dict[str, int]
    num_outputs: int
    space: Space

    def options(self):
        return {"num_outputs": self.num_outputs, "space": self.space}

    def probabilities(self):
        """(B, M, K), or (B, M, K, 2) with each label's two outcomes, as NumPy float64."""
        stacked = torch.stack(list(self.scores.values()), 1).double()
        if self.space == "log_odds":
            return torch.stack([stacked.sigmoid(), (-stacked).sigmoid()], -1).numpy()
        return stacked.exp().numpy()


def make_batch(
    space="log_probabilities", parts=3, outputs=4, rows=7, dtype=torch.float64, absent=0.3, seed=0, scale=2.0
):
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    inputs = {f"part.{index}": (3, 0, 5, 1, 2)[index % 5] for index in range(parts)}
    scores = {name: (draw(rows, outputs) * scale) for name in inputs}
    if space == "log_probabilities":
        scores = {name: value.log_softmax(-1) for name, value in scores.items()}
    features = {name: draw(rows, size).to(dtype) for name, size in inputs.items()}
    present = torch.rand((rows, parts), generator=generator) >= absent
    present[torch.arange(rows), torch.arange(rows) % parts] = True
    return Batch({k: v.to(dtype) for k, v in scores.items()}, present, features, inputs, outputs, space)


@pytest.fixture
def batch_of():
    return make_batch


@pytest.fixture(params=["log_probabilities", "log_odds"])
def distributions(request):
    """A batch with absent parts, of classes and of labels."""
    return make_batch(request.param)
