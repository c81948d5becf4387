"""The order of the training rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import toys
from torch import nn

from mmreg.contract.spec import Spec
from mmreg.data.lengths import WINDOW, padding_share, ragged_bytes, unpadded_order
from mmreg.data.prepared import Prepared
from mmreg.layers import MaskedBatchNorm
from mmreg.recipe.training_form import Training
from mmreg.runs import run as run_module
from mmreg.training.order import bucket_lengths, epoch_order


def order(seed: int, epoch: int = 0) -> list[int]:
    return np.concatenate(epoch_order(20, Training(seed=seed, batch_size=6), epoch)).tolist()


def test_every_row_comes_once_in_an_order_by_seed_and_epoch() -> None:
    assert [len(part) for part in epoch_order(20, Training(batch_size=6), 0)] == [6, 6, 6, 2]
    assert sorted(order(1)) == list(range(20))
    assert order(1) == order(1)
    assert order(1) != order(2)
    assert order(1) != order(1, epoch=1)


def log_uniform(count: int, seed: int = 0) -> np.ndarray:
    return np.exp(np.random.default_rng(seed).uniform(0, np.log(2000), count)).astype(np.int64)


def padded(batches: list[np.ndarray], lengths: np.ndarray) -> int:
    return sum(int(lengths[batch].max()) * len(batch) for batch in batches)


@pytest.mark.parametrize("rows", [1, 7, 64, 1000, 5003])
def test_rows_of_similar_length_come_together_each_once_in_an_order_by_seed_and_epoch(rows: int) -> None:
    lengths, options = log_uniform(rows), Training(batch_size=16)
    batches = epoch_order(rows, options, 0, lengths)
    assert sorted(np.concatenate(batches).tolist()) == list(range(rows))
    sizes = sorted(map(len, batches))
    assert sizes == sorted(map(len, epoch_order(rows, options, 0)))  # so that a training has as many steps
    again = epoch_order(rows, options, 0, lengths)
    assert [batch.tolist() for batch in again] == [batch.tolist() for batch in batches]
    if rows > 64:
        assert padded(batches, lengths) < 0.3 * padded(epoch_order(rows, options, 0), lengths)
        assert padded(batches, lengths) < 1.2 * lengths.sum()
        for other in (epoch_order(rows, options, 1, lengths), epoch_order(rows, Training(seed=1), 0, lengths)):
            assert [batch.tolist() for batch in other] != [batch.tolist() for batch in batches]


def test_batches_of_similar_rows_are_in_random_order_and_their_rows_change_from_epoch_to_epoch() -> None:
    lengths, options = log_uniform(640), Training(batch_size=16)  # less than a window, which is sorted as a whole
    longest = [int(lengths[batch].max()) for batch in epoch_order(640, options, 0, lengths)]
    assert abs(np.corrcoef(longest, np.arange(len(longest)))[0, 1]) < 0.4
    together = [{frozenset(batch.tolist()) for batch in epoch_order(640, options, epoch, lengths)} for epoch in (0, 1)]
    assert len(together[0] & together[1]) <= 1


def test_rows_of_one_length_are_in_no_order_at_all() -> None:
    batches = epoch_order(1000, Training(batch_size=10), 0, np.full(1000, 5))
    places = np.concatenate(batches)
    assert abs(np.corrcoef(places, np.arange(1000))[0, 1]) < 0.2
    assert np.abs(np.diff([batch.mean() for batch in batches])).mean() > 50


def of_lengths(lengths: np.ndarray, dtype: str = "int32", name: str = "text") -> Prepared:
    """A modality whose rows have these lengths; 0 for one that is absent."""
    there = lengths > 0
    offsets = np.concatenate([[0], np.cumsum(lengths[there])]).astype(np.int64)
    index = np.where(there, np.cumsum(there) - 1, -1).astype(np.int64)
    return Prepared(
        name=name, stored=Spec("T", (None,), dtype), values=np.zeros(offsets[-1], dtype), offsets=offsets, index=index
    )


def fixed(rows: int, size: int) -> Prepared:
    return Prepared(
        name="image",
        stored=Spec("C", (size,)),
        values=np.zeros((rows, size), np.float32),
        offsets=None,
        index=np.arange(rows),
    )


def test_the_bytes_that_vary_are_added_up_over_modalities_and_rows_without_them_have_none() -> None:
    prepared = {
        "text": of_lengths(np.array([3, 0, 5, 2])),
        "audio": of_lengths(np.array([0, 0, 7, 1]), "int16"),
        "image": fixed(4, 9),
    }
    sizes = ragged_bytes(prepared, np.array([3, 0, 1, 2]))
    assert sizes is not None
    assert sizes.tolist() == [4 * 2 + 2 * 1, 4 * 3, 0, 4 * 5 + 2 * 7]
    assert ragged_bytes({"image": fixed(4, 9)}, np.arange(4)) is None


def test_the_share_of_padding_counts_what_is_of_one_size_as_well() -> None:
    lengths = np.tile([500, 1500], 2000)  # nearly every batch holds one of 1500, so a third of it is padding
    rows = np.arange(len(lengths))
    assert padding_share({"text": of_lengths(lengths)}, rows, 32) == pytest.approx(1 / 3, abs=0.01)
    both = {"text": of_lengths(lengths), "image": fixed(len(rows), 1500)}
    assert padding_share(both, rows, 32) == pytest.approx(1 / 6, abs=0.005)
    assert padding_share({"image": fixed(len(rows), 1500)}, rows, 32) == 0
    assert padding_share({"text": of_lengths(np.tile([1, 11], 2000))}, rows, 32) == 0  # 20 bytes a row are not worth it


@pytest.mark.parametrize(
    ("lengths", "wanted", "buckets"),
    [
        (log_uniform(2000), "auto", True),
        (log_uniform(2000), False, False),
        (np.random.default_rng(0).integers(1, 2000, 2000), "auto", False),  # half of a batch is padding
        (np.random.default_rng(0).integers(1, 2000, 2000), True, True),
        (np.full(2000, 700), "auto", False),
    ],
)
def test_rows_come_together_by_length_where_most_would_be_padding_or_the_recipe_says_so(
    lengths: np.ndarray, wanted: bool | str, buckets: bool
) -> None:
    options = Training.model_validate({"bucket": wanted})
    found = bucket_lengths({"text": of_lengths(lengths)}, np.arange(len(lengths)), options, nn.Linear(1, 1))
    assert (found is not None) == buckets


def test_a_norm_over_batches_keeps_rows_apart_unless_the_recipe_says_otherwise() -> None:
    prepared, rows = {"text": of_lengths(log_uniform(2000))}, np.arange(2000)
    model = nn.Sequential(nn.Linear(1, 1), MaskedBatchNorm(1))
    assert bucket_lengths(prepared, rows, Training(), model) is None
    assert bucket_lengths(prepared, rows, Training(bucket=True), model) is not None


def test_rows_that_are_only_predicted_are_sorted_within_windows_and_none_is_lost() -> None:
    lengths = log_uniform(4000)
    prepared, rows = {"text": of_lengths(lengths)}, np.arange(100, 3900)
    batches = unpadded_order(prepared, rows, 16)
    assert batches is not None
    assert sorted(np.concatenate(batches).tolist()) == list(range(3800))
    assert padded(batches, lengths[rows]) < 1.2 * lengths[rows].sum()
    assert max(int(np.ptp(batch)) for batch in batches) < WINDOW * 16  # what is read at a time lies together
    assert unpadded_order({"text": of_lengths(np.full(100, 300))}, np.arange(100), 16) is None


def test_predictions_come_in_the_order_of_the_rows_in_whatever_order_they_are_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toys.register()
    run = toys.train(tmp_path / "run", toys.rows(absent=0.3), fusion="product")
    known = run.known_rows(split="test")
    plain = run.predict_rows(known.prepared, known.rows)
    shuffled = np.random.default_rng(0).permutation(len(known.rows))
    monkeypatch.setattr(run_module, "unpadded_order", lambda prepared, rows, size: np.array_split(shuffled, 7))
    again = run.predict_rows(known.prepared, known.rows)
    torch.testing.assert_close(again.scores, plain.scores)
    assert torch.equal(again.present, plain.present)
    for name, part in plain.parts.items():
        torch.testing.assert_close(again.parts[name].scores, part.scores)
        assert torch.equal(again.parts[name].present, part.present)
