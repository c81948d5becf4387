"""Files that are kept as they are: what is gathered of them is what arrays would give, to the last bit."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

import mmreg.data.checksums
import mmreg.data.decode
import mmreg.data.mapped
from mmreg.contract.interfaces import Modality
from mmreg.contract.signals import Signal
from mmreg.contract.spec import SEQUENCE, VECTOR, Spec, Specs
from mmreg.data.batches import Batches
from mmreg.data.cache import entries_dir
from mmreg.data.encoded import EncodedValues
from mmreg.data.prepare import Prepared, prepare, raise_bad
from mmreg.data.prepared import fit_arrays
from mmreg.data.table import Table, read_table
from mmreg.data.upkeep import inventory
from mmreg.errors import CacheError, DataError, TableError, ValueLoadError

ROWS = 40


class Picture(Modality):
    """Files of at least 20 bytes as pictures of one size."""

    paths = takes_bytes = True
    stored: Specs = Spec("HWC", (4, 5, 1), "uint8")
    spec = stored

    def __init__(self) -> None:
        self.loaded: list[Any] = []
        self.fitted: list[Any] = []

    def load(self, value: Any) -> Any:
        self.loaded.append(value)
        data = value.read_bytes() if isinstance(value, Path) else value
        if len(data) < 20:
            raise ValueLoadError(f"a picture of {len(data)} bytes")
        return np.frombuffer(data[:20], np.uint8).reshape(4, 5, 1)

    def fit_arrays(self, arrays: Any) -> None:
        self.fitted = [str(array) for array in arrays]


class Sound(Picture):
    """Files of bytes as sounds of any length."""

    stored: Specs = Spec(SEQUENCE, (None, 1), "float32")
    spec = stored

    def load(self, value: Any) -> Any:
        data = value.read_bytes() if isinstance(value, Path) else value
        self.loaded.append(value)
        return np.frombuffer(data, np.uint8)[:, None].astype(np.float32)


class Marked(Sound):
    """The same with a loudness and marks, of which the ragged ones are not the first by name."""

    stored: Specs = {  # noqa: RUF012 (it is read alone)
        "loudness": Spec(VECTOR, (1,), "float32"),
        "marks": Spec("T", (None,), "int64", 256),
        "wave": Spec(SEQUENCE, (None, 2), "float32"),
    }
    spec = stored

    def load(self, value: Any) -> Mapping[str, NDArray[Any]]:
        wave: NDArray[Any] = super().load(value)
        loudness = wave.mean(keepdims=True)[0]
        return {"loudness": loudness, "marks": wave[:, 0].astype(np.int64), "wave": np.repeat(wave, 2, 1)}


MODALITIES = [Picture, Sound, Marked]


@pytest.fixture
def table(tmp_path: Path) -> Table:
    """Forty files, one of them twice, an absent cell, one without a file, one with an empty file, and a folder."""
    generator = np.random.default_rng(3)
    for row in range(ROWS):
        (tmp_path / f"{row}.bin").write_bytes(generator.integers(0, 256, 20 + row, np.uint8).tobytes())
    (tmp_path / "empty.bin").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    names: list[str | None] = [f"{row}.bin" for row in range(ROWS)]
    return read_table({"file": [*names, None, "3.bin", "gone.bin", "empty.bin", "folder"]}, tmp_path)


def get(modality: Modality, table: Table, cache: Path | None, store: Any = "encoded", **options: Any) -> Prepared:
    given: dict[str, Any] = {"name": "it", "on_bad": "absent", "store": store, "cache_dir": cache, **options}
    return prepare(modality, table, ["file"], **given)


def tensors(signal: Signal[Any]) -> dict[str, Tensor]:
    values = signal.values if isinstance(signal.values, dict) else {"": signal.values}
    return values if signal.lengths is None else {**values, "lengths": signal.lengths}


def assert_same(one: Signal[Any], other: Signal[Any]) -> None:
    first, second = tensors(one), tensors(other)
    assert list(first) == list(second)
    for name, tensor in first.items():
        assert tensor.dtype == second[name].dtype
        assert torch.equal(tensor, second[name]), name


@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize("cls", MODALITIES)
def test_all_is_as_with_arrays(table: Table, cache: Path, cls: type[Picture], cached: bool) -> None:
    decoded = get(cls(), table, cache if cached else None, "decoded")
    for _ in range(2):  # the second time it is found
        encoded = get(cls(), table, cache if cached else None)
        assert isinstance(encoded, EncodedValues)
        assert encoded.present.tolist() == decoded.present.tolist()
        assert encoded.bad == decoded.bad
        assert encoded.nbytes == decoded.nbytes
        assert (encoded.offsets is None) == (decoded.offsets is None)
        if encoded.offsets is not None:
            assert encoded.offsets.tolist() == decoded.offsets.tolist()  # type: ignore[union-attr]
        for rows in (np.array([7]), np.array([30, 2, 3, 3, 41]), np.flatnonzero(decoded.present)):
            assert_same(encoded.gather(rows), decoded.gather(rows))
    every = np.arange(len(table))
    assert list(map(str, encoded.arrays(every))) == list(map(str, decoded.arrays(every)))
    assert encoded.gather(np.array([7])).lengths_on_host() is not None or encoded.offsets is None


def test_only_one_of_them_has_whole_arrays(table: Table) -> None:
    assert get(Picture(), table, None, "decoded").whole
    assert not get(Picture(), table, None).whole


def test_what_is_kept_is_the_files(table: Table, tmp_path: Path, cache: Path) -> None:
    get(Sound(), table, cache)
    (entry,) = entries_dir(cache).iterdir()
    files = b"".join((tmp_path / f"{row}.bin").read_bytes() for row in range(ROWS))
    assert (entry / "values.0.bin").read_bytes() == files
    assert [entry.store for entry in inventory(cache)] == ["encoded"]


def test_both_are_kept_side_by_side(table: Table, cache: Path) -> None:
    get(Sound(), table, cache)
    modality = Sound()
    get(modality, table, cache, "decoded")
    assert modality.loaded
    assert len(list(entries_dir(cache).iterdir())) == 2


def test_a_file_is_decoded_once_to_see_whether_it_can_be_and_not_when_it_is_found_again(
    table: Table, tmp_path: Path, cache: Path
) -> None:
    first, again = Picture(), Picture()
    get(first, table, cache)
    assert sorted(path.name for path in first.loaded)[:3] == ["0.bin", "1.bin", "10.bin"]
    assert len(first.loaded) == ROWS + 3  # those that cannot be loaded are tried
    prepared = get(again, table, cache)
    assert again.loaded == []
    prepared.gather(np.array([5, 6]))
    assert sorted(again.loaded) == sorted((tmp_path / f"{row}.bin").read_bytes() for row in (5, 6))


def test_the_files_may_be_gone_later(table: Table, tmp_path: Path, cache: Path) -> None:
    prepared = get(Sound(), table, cache)
    expected = prepared.gather(np.array([1, 2]))
    for row in range(ROWS):
        (tmp_path / f"{row}.bin").unlink()
    assert_same(prepared.gather(np.array([1, 2])), expected)


def test_bad_cells_are_told_as_with_arrays(table: Table, cache: Path) -> None:
    told = []
    for store in ("decoded", "encoded"):
        with pytest.raises(DataError, match="3 cells cannot be loaded") as raised:
            raise_bad([get(Picture(), table, cache, store, on_bad="error")])
        told.append(str(raised.value))
    assert told[0] == told[1]


def test_columns_of_bytes_and_of_structs_do_as_well(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"x" * 21)
    structs = [{"bytes": b"y" * 30, "path": None}, {"bytes": None, "path": "a.bin"}, None]
    for values in (structs, [b"y" * 30, b"x" * 21, None]):
        held = read_table({"file": values}, tmp_path)
        assert_same(
            get(Sound(), held, cache).gather(np.array([0, 1])),
            get(Sound(), held, None, "decoded").gather(np.array([0, 1])),
        )


def test_what_is_no_file_is_refused(cache: Path) -> None:
    class Arrays(Picture):
        def load(self, value: Any) -> Any:
            return value.astype(np.uint8).reshape(4, 5, 1)

    table = read_table({"file": [np.zeros(20), np.ones(20)]})
    with pytest.raises(
        TableError, match=r"Arrays is to keep files as they are .* and the table holds a ndarray; leave"
    ):
        get(Arrays(), table, cache)
    assert list(entries_dir(cache).iterdir()) == []


def test_fitting_sees_every_array_in_order(table: Table) -> None:
    rows = np.array([9, 3, 40, 3, 0])
    learned = []
    for store in ("decoded", "encoded"):
        modality = Sound()
        fit_arrays({"it": get(modality, table, None, store)}, {"it": modality}, rows)
        learned.append(modality.fitted)
    assert len(learned[0]) == 4
    assert learned[0] == learned[1]


@pytest.mark.parametrize("workers", [1, 2, 7])
def test_no_batch_depends_on_how_it_is_decoded(
    table: Table, cache: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    expected = Batches({"it": get(Sound(), table, None, "decoded")}, np.arange(ROWS), batch_size=7)
    monkeypatch.setattr("mmreg.data.encoded.num_workers", lambda: workers)
    batches = Batches({"it": get(Sound(), table, cache)}, np.arange(ROWS), batch_size=7)
    for one, other in zip(batches, expected, strict=True):
        assert_same(one.signals["it"], other.signals["it"])


def test_batches_are_decoded_ahead_in_other_threads(table: Table, cache: Path) -> None:
    class Watched(Picture):
        def load(self, value: Any) -> Any:
            if isinstance(value, bytes):
                threads.add(threading.current_thread().name.rpartition("_")[0])
                decoded.append(value)
            return super().load(value)

    threads: set[str] = set()
    decoded: list[bytes] = []
    batches = iter(Batches({"it": get(Watched(), table, cache)}, np.arange(ROWS), batch_size=4))
    next(batches)
    next(batches)  # by then the third is asked for
    list(batches)
    assert threads == {"mmreg-decode"}
    assert len(decoded) == ROWS


def test_damage_is_mended_from_the_files(table: Table, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mmreg.data.checksums, "BLOCK_BYTES", 50)
    monkeypatch.setattr(mmreg.data.mapped, "BLOCK_BYTES", 50)
    expected = get(Marked(), table, None, "decoded").gather(np.arange(ROWS))
    for name in ("values.0.bin", "values.1.bin"):
        prepared = get(Marked(), table, cache)
        assert_same(prepared.gather(np.array([0])), get(Marked(), table, None, "decoded").gather(np.array([0])))
        (entry,) = entries_dir(cache).iterdir()
        data = bytearray((entry / name).read_bytes())
        data[-5] ^= 1
        (entry / name).write_bytes(data)
        assert_same(prepared.gather(np.arange(ROWS)), expected)
        assert_same(get(Marked(), table, cache).gather(np.arange(ROWS)), expected)


def test_a_file_that_cannot_be_decoded_any_more_is_an_error(table: Table, cache: Path) -> None:
    class Moody(Sound):
        mood = "well"

        def load(self, value: Any) -> Any:
            if self.mood == "ill":
                raise ValueLoadError("not today")
            return super().load(value)[: 3 if self.mood == "short" else None]

    modality = Moody()
    prepared = get(modality, table, cache)
    for mood, cause in (("ill", "not today"), ("short", "it is of another size")):
        modality.mood = mood
        with pytest.raises(CacheError, match=rf"it: a file that could be loaded .* cannot be loaded now \({cause}\)"):
            prepared.gather(np.array([1]))


def test_a_column_in_which_everything_is_absent(cache: Path) -> None:
    prepared = get(Sound(), read_table({"file": [None, ""]}), cache)
    assert not prepared.present.any()
    assert prepared.nbytes == 0
    assert list(prepared.arrays(np.arange(2))) == []


def test_a_killed_preparation_of_files_goes_on(table: Table, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stopped(Picture):
        stop = True

        def load(self, value: Any) -> Any:
            if self.stop and value.name == "35.bin":
                raise KeyboardInterrupt
            return super().load(value)

    monkeypatch.setattr(mmreg.data.decode, "FIRST_CHUNK", 2)
    monkeypatch.setattr(mmreg.data.decode, "MAX_CHUNK", 2)
    modality = Stopped()
    with pytest.raises(KeyboardInterrupt):
        get(modality, table, cache)
    modality.stop, modality.loaded = False, []
    prepared = get(modality, table, cache)
    assert 0 < len(modality.loaded) < ROWS - 10
    expected = get(Picture(), table, None, "decoded").gather(np.arange(ROWS))
    assert_same(prepared.gather(np.arange(ROWS)), expected)
