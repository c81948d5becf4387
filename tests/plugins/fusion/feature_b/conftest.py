"""Batches with and without tokens, ragged and absent, for the tests of the token and the other operators."""

from collections.abc import Callable, Mapping, Sequence

import pytest
import torch
from torch import Tensor

from mmreg.contract.signals import Features

Batch = tuple[dict[str, Features], Tensor]


def batch(
    sizes: Mapping[str, int],
    rows: int = 8,
    *,
    lengths: Sequence[int] | None = None,
    absent: bool = False,
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
) -> Batch:
    """Random features of every modality; with `lengths` (the longest of each) as tokens with a mask.

    With `absent`, rows go through all patterns of absence, beginning with nothing present and ending with everything.
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    features = {}
    for index, (name, size) in enumerate(sizes.items()):
        if lengths is None:
            features[name] = Features(pooled=normal(rows, size))
        else:
            longest = lengths[index]
            valid = torch.randint(1, longest + 1, (rows,), generator=generator)
            mask = torch.arange(longest)[None] < valid[:, None]
            features[name] = Features(tokens=normal(rows, longest, size), mask=mask)
    present = torch.ones(rows, len(sizes), dtype=torch.bool)
    if absent:
        pattern = torch.arange(rows) % 2 ** len(sizes)
        present = (pattern[:, None] >> torch.arange(len(sizes))) % 2 == 1
    return features, present


@pytest.fixture(scope="session")
def make_batch() -> Callable[..., Batch]:
    return batch
