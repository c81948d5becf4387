"""What passes between components is a tree of tensors to torch."""

from __future__ import annotations

import pytest
import torch
from torch.utils import _pytree as pytree

from mmreg import Features, Fused, Signal

LENGTHS = torch.tensor([3, 1])
SIGNALS = {
    "a signal": (Signal(torch.zeros(2, 4)), 1),
    "a ragged signal": (Signal(torch.zeros(2, 3, 4), LENGTHS, LENGTHS), 3),
    "a signal of several tensors": (Signal({"words": torch.zeros(2, 3), "numbers": torch.ones(2, 4)}, LENGTHS), 3),
    "features": (Features(pooled=torch.zeros(2, 5), losses={"a": torch.ones(()), "b": torch.ones(())}), 3),
    "tokens": (Features(tokens=torch.zeros(2, 3, 5), mask=torch.ones(2, 3, dtype=torch.bool)), 2),
    "fused": (Fused(torch.zeros(2, 3), {"a": torch.ones(())}, {"doubt": torch.zeros(2)}), 3),
}


@pytest.mark.parametrize("name", SIGNALS)
def test_flattened_it_is_its_tensors_and_unflattened_it_is_what_it_was(name):
    signal, count = SIGNALS[name]
    leaves, spec = pytree.tree_flatten(signal)
    assert len(leaves) == count
    assert all(isinstance(leaf, torch.Tensor) for leaf in leaves)
    again = pytree.tree_unflatten(leaves, pytree.treespec_loads(pytree.treespec_dumps(spec)))
    assert type(again) is type(signal)
    assert vars(again) == vars(signal)


def test_a_function_is_mapped_over_all_tensors_wherever_they_are():
    doubled = pytree.tree_map(lambda values: 2 * values, {"it": [Fused(torch.ones(1, 2), {"a": torch.ones(())})]})
    (fused,) = doubled["it"]
    assert fused.scores.tolist() == [[2, 2]]
    assert fused.losses["a"] == 2
    assert fused.extras == {}
