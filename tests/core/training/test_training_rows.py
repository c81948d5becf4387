"""The rows of a training: a pass over a million of them copies nothing that they have."""

import tracemalloc

import numpy as np
import torch

from mmreg.contract.spec import GRID, Spec
from mmreg.data.prepared import Prepared
from mmreg.training.peers import Peers
from mmreg.training.rows import TrainingRows

COUNT = 1_000_000


def rows() -> TrainingRows:
    """Each with one and the same picture; every other one is for training."""
    values, index = np.zeros((1, 3, 2, 2), np.uint8), np.zeros(COUNT, np.int64)
    part = Prepared(name="image", stored=Spec(GRID, (3, 2, 2), "uint8"), values=values, offsets=None, index=index)
    weights = np.linspace(1, 2, COUNT, dtype=np.float32)
    return TrainingRows({"image": part}, np.arange(COUNT), weights, np.arange(0, COUNT, 2), np.arange(0))


def test_batches_have_the_targets_and_weights_of_their_rows() -> None:
    (batch,) = rows().training_batches([np.array([3, 0, 5])], None, torch.device("cpu"))
    assert batch.index.tolist() == [3, 0, 5]
    assert batch.targets.tolist() == [6, 0, 10]
    np.testing.assert_array_equal(batch.weights.numpy(), rows().weights[[6, 0, 10]])


def test_an_epoch_takes_a_byte_a_row_and_modality() -> None:
    """It tells whether the row has that modality; targets of 8 bytes and weights of 4 are not copied."""
    known, order = rows(), [np.arange(64)]
    tracemalloc.start()
    try:
        next(iter(known.training_batches(order, None, torch.device("cpu"))))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3 * len(known.train)


def test_a_process_that_trains_by_itself_looks_at_no_rows_to_know_its_part() -> None:
    def looked_at() -> None:
        raise AssertionError

    assert Peers().parts([np.arange(3)], looked_at) is None
