"""The order of the training rows."""

from __future__ import annotations

import numpy as np

from mmreg.recipe.form import Training
from mmreg.training.order import epoch_order


def order(seed: int, epoch: int = 0) -> list[int]:
    return np.concatenate(epoch_order(20, Training(seed=seed, batch_size=6), epoch)).tolist()


def test_every_row_comes_once_in_an_order_by_seed_and_epoch() -> None:
    assert [len(part) for part in epoch_order(20, Training(batch_size=6), 0)] == [6, 6, 6, 2]
    assert sorted(order(1)) == list(range(20))
    assert order(1) == order(1)
    assert order(1) != order(2)
    assert order(1) != order(1, epoch=1)
