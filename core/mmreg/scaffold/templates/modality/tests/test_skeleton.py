"""The conformance checks, and what this modality does with numbers."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from mmreg import Signal, registry
from mmreg.errors import ValueLoadError
from mmreg.testing import parametrize_checks

VALUES = [np.random.default_rng(size).normal(5, 3, (size, 2)) for size in (4, 1, 9, 6, 3, 7)]


@parametrize_checks("modality/skeleton", values=VALUES, bad_values=[np.zeros((4, 3)), "text"], options={"channels": 2})
def test_conformance(check: Callable[[], None]) -> None:
    check()


def test_values_are_normalised_by_the_training_rows_mean_and_deviation() -> None:
    modality = registry.build("modality", "skeleton")
    modality.fit_arrays(iter([modality.load([1.0, 3.0])]))
    lengths = torch.tensor([3])
    signal = modality.transform(Signal(torch.tensor([[[2.0], [4.0], [0.0]]]), lengths, lengths), training=False)
    assert signal.values.flatten().tolist() == [0, 2, -2]


def test_another_number_of_channels_is_refused() -> None:
    with pytest.raises(ValueLoadError, match=r"\(T, 1\) is needed"):
        registry.build("modality", "skeleton").load(np.zeros((4, 3)))
