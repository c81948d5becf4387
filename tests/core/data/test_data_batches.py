"""Gathering values and batches."""

import threading
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import mmreg.data.batches
from mmreg.contract.spec import GRID, SEQUENCE, Spec
from mmreg.data.batches import Batches
from mmreg.data.prepared import Prepared

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 255, (20, 3, 4, 5), dtype=np.uint8)
SOUNDS = [RANDOM.random((length, 2)).astype(np.float32) for length in RANDOM.integers(1, 9, 20)]
TARGETS = np.arange(20) * 10


def images(absent: list[int] | None = None) -> Prepared:
    index = np.arange(20)
    index[absent or []] = -1
    return Prepared(
        name="image", stored=Spec(GRID, (3, 4, 5), "uint8"), values=IMAGES, offsets=None, index=index, bad=[]
    )


def sounds(absent: list[int] | None = None) -> Prepared:
    index = np.arange(20)
    index[absent or []] = -1
    offsets = np.cumsum([0, *map(len, SOUNDS)]).astype(np.int64)
    values = np.concatenate(SOUNDS)
    return Prepared(name="sound", stored=Spec(SEQUENCE, (None, 2)), values=values, offsets=offsets, index=index)


def batches(prepared: dict[str, Prepared] | None = None, **options: Any) -> Batches:
    rows = np.arange(20)
    return Batches(prepared or {"image": images(), "sound": sounds()}, rows, TARGETS, **{"batch_size": 6, **options})


def test_a_fixed_gather_gives_the_rows_in_order() -> None:
    rows = np.array([7, 0, 7, 19])
    signal = images().gather(rows)
    assert signal.values.dtype == torch.uint8
    assert signal.lengths is None
    np.testing.assert_array_equal(signal.values.numpy(), IMAGES[rows])


def test_a_ragged_gather_equals_padding_row_by_row() -> None:
    rows = RANDOM.permutation(20)[:9]
    signal = sounds().gather(rows)
    lengths = [len(SOUNDS[row]) for row in rows]
    expected = np.zeros((9, max(lengths), 2), np.float32)
    for place, row in enumerate(rows):
        expected[place, : len(SOUNDS[row])] = SOUNDS[row]
    np.testing.assert_array_equal(signal.values.numpy(), expected)
    assert signal.lengths is not None
    assert signal.lengths.tolist() == lengths
    assert signal.lengths.dtype == torch.int64
    assert signal.lengths_on_host() is signal.host_lengths
    assert signal.host_lengths is not None


@pytest.mark.parametrize("lengths", [[3, 3, 3, 3], [3, 3, 3, 2], [1, 1, 1, 1]])
def test_ragged_values_of_one_length_are_gathered_as_others_are(lengths: list[int]) -> None:
    sounds = [RANDOM.random((length, 2)).astype(np.float32) for length in lengths]
    offsets, index = np.cumsum([0, *lengths]).astype(np.int64), np.array([2, 0, -1, 3, 1, 1])
    stored = Spec(SEQUENCE, (None, 2))
    part = Prepared(name="sound", stored=stored, values=np.concatenate(sounds), offsets=offsets, index=index)
    signal = part.gather(np.array([5, 0, 3]))
    expected = np.zeros((3, max(lengths[number] for number in (1, 2, 3)), 2), np.float32)
    for place, number in enumerate((1, 2, 3)):
        expected[place, : lengths[number]] = sounds[number]
    np.testing.assert_array_equal(signal.values.numpy(), expected)
    assert signal.lengths is not None
    assert signal.lengths.tolist() == [lengths[number] for number in (1, 2, 3)]
    signal.values.zero_()  # its own memory
    assert part.gather(np.array([5])).values.any()


def test_ragged_values_of_one_length_may_have_no_numbers() -> None:
    offsets = np.array([0, 3, 6])
    stored = Spec(SEQUENCE, (None, 0))
    part = Prepared(name="s", stored=stored, values=np.zeros((6, 0)), offsets=offsets, index=np.arange(2))
    assert part.gather(np.array([1, 0])).values.shape == (2, 3, 0)


def test_gathering_a_row_without_a_value_is_an_error() -> None:
    with pytest.raises(IndexError, match="image: rows 3 have no value"):
        images([3, 4]).gather(np.array([1, 3]))


def test_arrays_are_copies_of_the_rows_that_are_present() -> None:
    prepared = sounds([2])
    arrays = list(prepared.arrays(np.array([5, 2, 0])))
    assert len(arrays) == 2
    np.testing.assert_array_equal(arrays[0], SOUNDS[5])
    arrays[0][:] = -1.0
    np.testing.assert_array_equal(next(prepared.arrays(np.array([5]))), SOUNDS[5])
    np.testing.assert_array_equal(next(images().arrays(np.array([3]))), IMAGES[3])


def test_batches_cover_the_rows_in_order() -> None:
    found = list(batches(weights=np.ones(20)))
    assert len(batches()) == len(found) == 4
    assert [batch.size for batch in found] == [6, 6, 6, 2]
    assert np.concatenate([batch.index for batch in found]).tolist() == list(range(20))
    assert torch.cat([batch.targets for batch in found if batch.targets is not None]).tolist() == TARGETS.tolist()
    assert found[0].weights is not None
    assert found[0].weights.dtype == torch.float32
    assert found[0].rows == {"image": None, "sound": None}
    np.testing.assert_array_equal(found[3].signals["image"].values.numpy(), IMAGES[18:])


def test_batches_of_a_split_count_their_rows_within_it() -> None:
    rows = np.array([4, 9, 15])
    order = np.array([2, 0])
    weights = np.linspace(0, 1, 20, dtype=np.float32)
    (batch,) = Batches({"image": images()}, rows, TARGETS, weights, order=[order])
    assert batch.index.tolist() == order.tolist()
    np.testing.assert_array_equal(batch.signals["image"].values.numpy(), IMAGES[rows[order]])
    assert batch.targets is not None
    assert batch.targets.tolist() == [150, 40]
    assert batch.weights is not None
    np.testing.assert_array_equal(batch.weights.numpy(), weights[[15, 4]])


def test_an_order_says_which_rows_come_together() -> None:
    found = batches(order=shuffled(1))
    assert len(found) == 4
    assert [batch.index.tolist() for batch in found] == [part.tolist() for part in shuffled(1)]


def shuffled(seed: int) -> list[np.ndarray]:
    return np.split(np.random.default_rng(seed).permutation(20), [6, 12, 18])


def test_what_is_absent_is_left_out() -> None:
    found = list(batches({"image": images([0, 1, 2, 3, 4, 5, 8]), "sound": sounds([8])}))
    assert set(found[0].signals) == set(found[0].rows) == {"sound"}
    assert found[0].present.tolist() == [[False, True]] * 6
    rows = found[1].rows["image"]
    assert rows is not None
    assert rows.tolist() == [0, 1, 3, 4, 5]
    np.testing.assert_array_equal(found[1].signals["image"].values.numpy(), IMAGES[[6, 7, 9, 10, 11]])
    assert found[1].present[2].tolist() == [False, False]
    assert found[2].rows["image"] is None


def test_dropped_rows_count_as_absent() -> None:
    mask = np.zeros(20, bool)
    mask[[1, 12]] = True
    found = list(batches(drop={"image": mask}, order=shuffled(3)))
    present = torch.cat([batch.present for batch in found])
    order = np.concatenate([batch.index for batch in found])
    assert sorted(order[~present[:, 0].numpy()].tolist()) == [1, 12]
    assert present[:, 1].all()


def test_lengths_that_contradict_each_other_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"targets must have one entry for each of 20 rows, found 2"):
        Batches({"image": images()}, np.arange(2), TARGETS[:2])
    with pytest.raises(ValueError, match=r"weights must have one entry for each of 20 rows, found 3"):
        batches(weights=np.ones(3))
    with pytest.raises(ValueError, match=r"drop\['image'\] must have"):
        batches(drop={"image": np.zeros(3, bool)})
    with pytest.raises(ValueError, match="batch_size"):
        batches(batch_size=0)


@pytest.fixture
def always_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mmreg.data.batches, "WORTH_A_THREAD", -1)


def loaders() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("mmreg-batches")]


@pytest.mark.usefixtures("always_ahead")
def test_prefetched_batches_are_the_same() -> None:
    for plain, ahead in zip(batches(order=shuffled(2)), batches(order=shuffled(2), prefetch=True), strict=True):
        assert plain.index.tolist() == ahead.index.tolist()
        assert torch.equal(plain.signals["sound"].values, ahead.signals["sound"].values)
    assert not loaders()


def test_small_batches_start_no_thread() -> None:
    iterator = iter(batches(prefetch=True))
    next(iterator)
    assert not loaders()


@pytest.mark.usefixtures("always_ahead")
def test_an_abandoned_iteration_ends_its_thread() -> None:
    for _ in batches(prefetch=True):
        assert loaders()
        break
    assert not loaders()


@pytest.mark.usefixtures("always_ahead")
def test_an_error_in_the_thread_reaches_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Prepared, rows: NDArray[np.int64]) -> Any:
        raise OSError("the disk is gone")

    monkeypatch.setattr(Prepared, "gather", broken)
    with pytest.raises(OSError, match="the disk is gone"):
        list(batches(prefetch=True))
    assert not loaders()


def test_a_batch_on_the_cpu_stays_as_it_is() -> None:
    batch = next(iter(batches()))
    assert batch.to("cpu") is batch


def test_a_batch_moves_to_another_device_with_all_but_what_the_host_needs() -> None:
    batch = next(iter(batches({"image": images([0]), "sound": sounds()}, weights=np.ones(20)))).to("meta")
    sound = batch.signals["sound"]
    moved = [sound.values, sound.lengths, batch.signals["image"].values, batch.rows["image"]]
    moved += [batch.targets, batch.weights, batch.present]
    assert all(tensor is not None and tensor.device.type == "meta" for tensor in moved)
    assert sound.host_lengths is not None
    assert sound.host_lengths.device.type == "cpu"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_batch_reaches_the_gpu_unchanged() -> None:
    batch = next(iter(batches()))
    moved = batch.to("cuda")
    assert moved.signals["sound"].values.device.type == "cuda"
    assert torch.equal(moved.signals["sound"].values.cpu(), batch.signals["sound"].values)
