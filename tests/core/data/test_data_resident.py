"""Values on a device: batches that are indices, equal to those that are gathered on the host."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from mmreg import Spec
from mmreg.data.batches import Batch, Batches
from mmreg.data.prepared import Prepared
from mmreg.data.resident import IndexedBatch, ResidentRows, ResidentValues, bucket, fits

RANDOM = np.random.default_rng(0)
CPU = torch.device("cpu")
TABLE, ROWS = 12, np.array([11, 3, 4, 0, 9, 6, 7])
TARGETS = RANDOM.integers(0, 5, TABLE)
WEIGHTS = RANDOM.random(TABLE).astype(np.float32)


def fixed(absent: list[int] | None = None) -> Prepared:
    index = RANDOM.integers(0, 6, TABLE)
    index[0] = 5
    index[absent or []] = -1
    values = RANDOM.integers(0, 256, (6, 3, 4, 4)).astype(np.uint8)
    return Prepared(name="image", stored=Spec("CHW", (3, 4, 4), "uint8"), values=values, offsets=None, index=index)


def ragged(lengths: list[int], absent: list[int] | None = None) -> Prepared:
    offsets = np.cumsum([0, *lengths]).astype(np.int64)
    index = RANDOM.permutation(np.arange(TABLE) % len(lengths))
    index[absent or []] = -1
    values = RANDOM.standard_normal((offsets[-1], 2)).astype(np.float32)
    return Prepared(name="sound", stored=Spec("TC", (None, 2)), values=values, offsets=offsets, index=index)


def named() -> Prepared:
    offsets = np.array([0, 3, 5, 9], np.int64)
    arrays = {"notes": RANDOM.integers(1, 9, 9), "key": RANDOM.standard_normal((3, 2)).astype(np.float32)}
    stored = {"notes": Spec("T", (None,), "int64", 9), "key": Spec("C", (2,))}
    return Prepared(name="song", stored=stored, values=arrays, offsets=offsets, index=np.arange(TABLE) % 3)


def both(prepared: dict[str, Prepared], **options: Any) -> list[tuple[IndexedBatch, Batch]]:
    """The batches of some rows, as indices and as they are gathered on the host."""
    order = [np.array([4, 1, 6]), np.array([0, 2, 3, 5])]
    batches = Batches(prepared, ROWS, TARGETS, WEIGHTS, order=order, **options)
    values = {name: ResidentValues(part, CPU) for name, part in prepared.items()}
    rows = ResidentRows(values, ROWS, TARGETS[ROWS], WEIGHTS[ROWS], CPU)
    return [(rows.batch(batch.index, batches.present[batch.index]), batch) for batch in batches]


def expect_equal(found: Batch, expected: Batch) -> None:
    assert torch.equal(found.present, expected.present)
    assert found.targets is not None
    assert expected.targets is not None
    assert torch.equal(found.targets, expected.targets)
    assert found.weights is not None
    assert expected.weights is not None
    assert torch.equal(found.weights, expected.weights)
    assert set(found.signals) == set(expected.signals)
    for name, signal in expected.signals.items():
        rows, own = expected.rows[name], found.rows[name]
        assert (rows is None) == (own is None)
        assert rows is None or torch.equal(rows, own)
        values, other = signal.values, found.signals[name].values
        arrays = values if isinstance(values, dict) else {"": values}
        others = other if isinstance(other, dict) else {"": other}
        for key, array in arrays.items():
            length = array.shape[1] if array.dim() > 1 else 0
            taken = others[key]
            if taken.shape != array.shape:
                assert not taken[:, length:].any(), "what is beyond the longest is zero"
                taken = taken[:, :length]
            assert torch.equal(taken, array)
        if signal.lengths is not None:
            assert torch.equal(found.signals[name].lengths, signal.lengths)


@pytest.mark.parametrize("absent", [[], [3, 9], [11, 3, 4, 0, 9, 6, 7]], ids=["none", "some", "all"])
def test_a_batch_of_indices_is_the_batch_that_the_host_gathers(absent: list[int]) -> None:
    prepared = {"image": fixed(absent), "sound": ragged([5, 30, 17, 1]), "song": named()}
    for indexed, gathered in both(prepared):
        expect_equal(indexed.to(CPU), gathered)
        assert indexed.size == gathered.size
        assert indexed.weight == pytest.approx(gathered.weight)


def test_rows_that_lose_a_modality_are_absent() -> None:
    drop = {"sound": np.array([False, True, False, False, True, True, False])}
    for indexed, gathered in both({"image": fixed(), "sound": ragged([5, 30, 17, 1], [6])}, drop=drop):
        expect_equal(indexed.to(CPU), gathered)


def test_batches_of_one_shape_are_told_apart_by_their_numbers_alone() -> None:
    prepared = {"image": fixed([3, 0]), "sound": ragged([30, 31, 32])}
    (first, first_gathered), (second, second_gathered) = (pair for pair in both_of_three(prepared))
    assert first.shape == second.shape
    expect_equal(first.gather(torch.from_numpy(second.numbers)), second_gathered)
    expect_equal(second.gather(torch.from_numpy(first.numbers)), first_gathered)


def both_of_three(prepared: dict[str, Prepared]) -> list[tuple[IndexedBatch, Batch]]:
    order = [np.array([4, 1, 6]), np.array([3, 2, 0])]  # each has one of the rows without a picture
    batches = Batches(prepared, ROWS, TARGETS, WEIGHTS, order=order)
    rows = ResidentRows(
        {n: ResidentValues(part, CPU) for n, part in prepared.items()}, ROWS, TARGETS[ROWS], WEIGHTS[ROWS], CPU
    )
    return [(rows.batch(batch.index, batches.present[batch.index]), batch) for batch in batches]


def test_another_number_of_rows_or_length_is_another_shape() -> None:
    shapes = {indexed.shape for indexed, _ in both({"sound": ragged([1, 2, 900, 40])})}
    assert len(shapes) == 2


def test_the_host_knows_lengths_where_all_are_alike() -> None:
    ((even, _), _) = both({"sound": ragged([7, 7, 7])})
    ((uneven, _), _) = both({"sound": ragged([7, 7, 6])})
    assert even.to(CPU).signals["sound"].host_lengths.tolist() == [7, 7, 7]
    assert uneven.to(CPU).signals["sound"].host_lengths is None


def test_lengths_come_in_few_sizes_that_are_at_most_a_quarter_longer() -> None:
    sizes = [bucket(length, 2000) for length in range(1, 2001)]
    assert all(length <= size <= 1.25 * length for length, size in enumerate(sizes, 1))
    assert len(set(sizes)) <= 4 * 11
    assert max(sizes) == 2000


def test_values_are_kept_where_half_of_the_memory_holds_them() -> None:
    part = fixed()
    size = part.nbytes + part.index.nbytes
    assert fits({"image": part}, 2 * size)
    assert not fits({"image": part}, 2 * size - 1)
